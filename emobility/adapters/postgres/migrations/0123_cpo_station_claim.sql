-- A station that nobody knows comes in once, by a password that was drawn for it.

CREATE TABLE cpo_station_claim (
    party_id TEXT NOT NULL,
    claim_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    serial_number TEXT,
    terms JSONB NOT NULL,
    state TEXT NOT NULL,
    why TEXT,
    is_settled BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, claim_id),
    CONSTRAINT a_claim_expires_after_it_was_made CHECK (expires_at > created_at)
);
CREATE INDEX cpo_station_claim_of_station ON cpo_station_claim (party_id, charging_station_id, state);
CREATE INDEX cpo_station_claim_unsettled ON cpo_station_claim (expires_at) WHERE NOT is_settled;
