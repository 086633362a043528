-- A site's limit is shared out among its EVSEs: groups, members, who charges, and what each station confirmed it may draw.

CREATE TABLE cpo_load_group (
    party_id TEXT NOT NULL,
    load_group_id TEXT NOT NULL,
    parent_id TEXT,
    limit_l1_da BIGINT,
    limit_l2_da BIGINT,
    limit_l3_da BIGINT,
    limit_w BIGINT,
    voltage_v BIGINT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, load_group_id),
    CONSTRAINT limits_are_not_negative CHECK (
        COALESCE(limit_l1_da, 0) >= 0 AND COALESCE(limit_l2_da, 0) >= 0 AND COALESCE(limit_l3_da, 0) >= 0
        AND COALESCE(limit_w, 0) >= 0
    ),
    CONSTRAINT voltage_is_positive CHECK (voltage_v > 0)
);

CREATE TABLE cpo_load_evse (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    load_group_id TEXT NOT NULL,
    phases JSONB NOT NULL,
    min_da BIGINT NOT NULL,
    max_da BIGINT NOT NULL,
    fallback_da BIGINT NOT NULL,
    weight BIGINT NOT NULL,
    is_in_watts BOOLEAN NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, ocpp_evse_id),
    CONSTRAINT fallback_is_within_maximum CHECK (fallback_da BETWEEN 0 AND max_da),
    CONSTRAINT minimum_is_within_maximum CHECK (min_da BETWEEN 1 AND max_da),
    CONSTRAINT weight_is_positive CHECK (weight >= 1)
);

CREATE INDEX cpo_load_evse_by_group ON cpo_load_evse (party_id, load_group_id);

CREATE TABLE cpo_evse_use (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    transaction_id TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    has_ended BOOLEAN NOT NULL,
    charging_state TEXT,
    power_w BIGINT,
    metered_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, charging_station_id, ocpp_evse_id)
);

CREATE TABLE cpo_load_limit (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    fallback_da BIGINT,
    fallback_asked_da BIGINT,
    transaction_id TEXT,
    limit_da BIGINT,
    limit_asked_da BIGINT,
    changed_at TIMESTAMPTZ,
    is_active BOOLEAN NOT NULL,
    since TIMESTAMPTZ,
    charged_s BIGINT NOT NULL,
    ceiling_da BIGINT,
    refusals BIGINT NOT NULL,
    refused_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, charging_station_id, ocpp_evse_id)
);

CREATE TABLE cpo_load_turn (
    party_id TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    held_until TIMESTAMPTZ NOT NULL
);
