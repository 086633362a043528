-- What is held for whom at which station, until somebody uses it, gives it up, or its time is over by our clock.

CREATE TABLE cpo_reservation (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    reservation_id BIGINT NOT NULL,
    state TEXT NOT NULL,
    ocpp_evse_id BIGINT,
    connector_type TEXT,
    id_token_subject TEXT,
    id_token_box BYTEA,
    id_token_type TEXT NOT NULL,
    group_key TEXT,
    emsp_id TEXT,
    external_id TEXT,
    command_id TEXT,
    made_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    answer TEXT,
    transaction_id TEXT,
    correlation_id TEXT NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, reservation_id)
);

CREATE INDEX cpo_reservation_live ON cpo_reservation (expires_at) WHERE state IN ('ASKED', 'ACTIVE', 'CANCELLING');

CREATE INDEX cpo_reservation_of_emsp ON cpo_reservation (party_id, emsp_id, external_id) WHERE external_id IS NOT NULL;

ALTER TABLE cpo_command ADD COLUMN reservation_id BIGINT;
