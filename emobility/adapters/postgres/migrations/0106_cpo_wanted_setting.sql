-- What operators set at stations - grid rules, tariffs, display messages - beside what stations say they have and follow.

CREATE TABLE cpo_wanted_setting (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    setting_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    state TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    answer TEXT,
    superseded_by TEXT,
    payload TEXT NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, setting_id)
);
CREATE INDEX cpo_wanted_setting_by_object ON cpo_wanted_setting (party_id, charging_station_id, kind, state, object_id);
CREATE INDEX cpo_wanted_setting_by_end ON cpo_wanted_setting (kind, ended_at);

CREATE TABLE cpo_der_control (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    control_id TEXT NOT NULL,
    control_type TEXT NOT NULL,
    is_default BOOLEAN,
    is_superseded BOOLEAN,
    setting TEXT NOT NULL,
    request_id BIGINT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, control_id)
);

CREATE TABLE cpo_der_period (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    period_id TEXT NOT NULL,
    control_id TEXT NOT NULL,
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    superseded_ids JSONB NOT NULL,
    told_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, period_id)
);
CREATE INDEX cpo_der_period_by_control ON cpo_der_period (party_id, charging_station_id, control_id, told_at);
CREATE INDEX cpo_der_period_by_age ON cpo_der_period (told_at);

CREATE TABLE cpo_der_alarm (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    alarm_id TEXT NOT NULL,
    control_type TEXT NOT NULL,
    grid_event_fault TEXT,
    began_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    told_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, alarm_id)
);
CREATE INDEX cpo_der_alarm_by_type ON cpo_der_alarm (party_id, charging_station_id, control_type, told_at);
CREATE INDEX cpo_der_alarm_by_age ON cpo_der_alarm (told_at);

CREATE TABLE cpo_display_message (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    message_id BIGINT NOT NULL,
    priority TEXT NOT NULL,
    display_state TEXT,
    message TEXT NOT NULL,
    request_id BIGINT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, message_id)
);
