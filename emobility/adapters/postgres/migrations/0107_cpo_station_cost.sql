-- Tariffs that stations say they have, running costs that they were told, and what they calculate by themselves.

CREATE TABLE cpo_tariff_assignment (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    asked_evse_id BIGINT NOT NULL,
    place BIGINT NOT NULL,
    tariff_id TEXT NOT NULL,
    tariff_kind TEXT NOT NULL,
    valid_from TIMESTAMPTZ,
    ocpp_evse_ids JSONB NOT NULL,
    drivers BIGINT NOT NULL,
    told_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, asked_evse_id, place)
);

CREATE TABLE cpo_cost_telling (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id)
);

CREATE TABLE cpo_told_cost (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    amount_e4 BIGINT NOT NULL,
    currency TEXT NOT NULL,
    result TEXT NOT NULL,
    told_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, transaction_id)
);

CREATE TABLE cpo_station_cost (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    seq_no BIGINT NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    currency TEXT NOT NULL,
    total_excl NUMERIC,
    total_incl NUMERIC,
    has_failed BOOLEAN NOT NULL,
    details_subject TEXT,
    details_box BYTEA,
    PRIMARY KEY (party_id, charging_station_id, transaction_id)
);
CREATE INDEX cpo_station_cost_by_time ON cpo_station_cost (party_id, charging_station_id, occurred_at);
