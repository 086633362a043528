-- Battery swaps of each station: asked for by us or begun there, with every battery that went in or out.

CREATE TABLE cpo_battery_swap (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    request_id BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    state TEXT NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    id_token_subject TEXT,
    id_token_box BYTEA,
    answer TEXT,
    uncounted BIGINT NOT NULL,
    swap JSONB NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, request_id, ordinal),
    CONSTRAINT ordinal_counts_from_one CHECK (ordinal >= 1)
);
CREATE INDEX cpo_battery_swap_by_time ON cpo_battery_swap (party_id, charging_station_id, opened_at);
CREATE INDEX cpo_battery_swap_waiting ON cpo_battery_swap (state, updated_at);
