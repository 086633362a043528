-- How stations may charge: profiles, limits from outside, what EVs want, and what stations answered to commands about it.

CREATE TABLE cpo_charging_profile (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    source TEXT NOT NULL,
    profile_id BIGINT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    purpose TEXT NOT NULL,
    stack_level BIGINT NOT NULL,
    transaction_id TEXT,
    profile JSONB NOT NULL,
    state TEXT NOT NULL,
    answer TEXT,
    changed_at TIMESTAMPTZ NOT NULL,
    request_id BIGINT,
    PRIMARY KEY (party_id, charging_station_id, source, profile_id)
);

CREATE TABLE cpo_profile_report (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    request_id BIGINT NOT NULL,
    is_whole BOOLEAN NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    answer TEXT,
    pages BIGINT NOT NULL,
    completed_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, charging_station_id, request_id),
    CONSTRAINT pages_are_not_negative CHECK (pages >= 0)
);

CREATE TABLE cpo_external_limit (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    source TEXT NOT NULL,
    schedules JSONB NOT NULL,
    is_grid_critical BOOLEAN,
    notified_at TIMESTAMPTZ NOT NULL,
    cleared_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, charging_station_id, ocpp_evse_id, source)
);

CREATE TABLE cpo_charging_needs (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    energy_transfer TEXT NOT NULL,
    energy_wh BIGINT,
    min_current_a NUMERIC,
    max_current_a NUMERIC,
    departure_at TIMESTAMPTZ,
    has_v2x BOOLEAN NOT NULL,
    needs_subject TEXT NOT NULL,
    needs_box BYTEA NOT NULL,
    told_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, ocpp_evse_id)
);

CREATE TABLE cpo_ev_schedule (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    base_at TIMESTAMPTZ NOT NULL,
    schedule JSONB NOT NULL,
    selected_schedule_id BIGINT,
    told_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, ocpp_evse_id)
);

CREATE TABLE cpo_priority_charging (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    is_activated BOOLEAN NOT NULL,
    is_told_by_station BOOLEAN NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, transaction_id)
);

CREATE TABLE cpo_charging_command (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    command_id TEXT NOT NULL,
    action TEXT NOT NULL,
    payload JSONB NOT NULL,
    result TEXT NOT NULL,
    station_status TEXT,
    answered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, command_id)
);

CREATE INDEX cpo_charging_command_by_time ON cpo_charging_command (party_id, charging_station_id, answered_at);
