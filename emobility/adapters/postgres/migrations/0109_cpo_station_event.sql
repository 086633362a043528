-- Events that stations report: monitored variables, streams of values, security, vendor data, customer information.

CREATE TABLE cpo_event_stream (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    stream_id BIGINT NOT NULL,
    variable_monitoring_id BIGINT,
    interval_s BIGINT,
    values_at_once BIGINT,
    opened_at TIMESTAMPTZ NOT NULL,
    closed_at TIMESTAMPTZ,
    reported_at TIMESTAMPTZ,
    pending BIGINT NOT NULL,
    values_heard BIGINT NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, stream_id),
    CONSTRAINT values_are_counted CHECK (pending >= 0 AND values_heard >= 0)
);

CREATE TABLE cpo_event_stream_value (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    stream_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    value TEXT NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, stream_id, number)
);
CREATE INDEX cpo_event_stream_value_by_time ON cpo_event_stream_value (party_id, charging_station_id, stream_id, at);
CREATE INDEX cpo_event_stream_value_by_age ON cpo_event_stream_value (heard_at);

CREATE TABLE cpo_security_event (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    security_event_id TEXT NOT NULL,
    security_event TEXT NOT NULL,
    is_critical BOOLEAN NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    tech_info TEXT,
    PRIMARY KEY (party_id, charging_station_id, security_event_id)
);
CREATE INDEX cpo_security_event_by_time ON cpo_security_event (party_id, charging_station_id, occurred_at);
CREATE INDEX cpo_security_event_by_age ON cpo_security_event (heard_at);

CREATE TABLE cpo_monitor_event (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    monitor_event_id TEXT NOT NULL,
    event_id BIGINT NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    component TEXT NOT NULL,
    component_instance TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    connector_id BIGINT NOT NULL,
    variable TEXT NOT NULL,
    variable_instance TEXT NOT NULL,
    trigger TEXT NOT NULL,
    notification_type TEXT NOT NULL,
    value TEXT NOT NULL,
    is_cleared BOOLEAN NOT NULL,
    severity BIGINT,
    variable_monitoring_id BIGINT,
    cause_event_id BIGINT,
    transaction_id TEXT,
    tech_code TEXT,
    tech_info TEXT,
    PRIMARY KEY (party_id, charging_station_id, monitor_event_id)
);
CREATE INDEX cpo_monitor_event_by_time ON cpo_monitor_event (party_id, charging_station_id, occurred_at);
CREATE INDEX cpo_monitor_event_by_age ON cpo_monitor_event (heard_at);

CREATE TABLE cpo_data_transfer (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    transfer_id TEXT NOT NULL,
    vendor_id TEXT NOT NULL,
    message_id TEXT,
    payload_subject TEXT,
    payload_box BYTEA,
    occurred_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, transfer_id)
);
CREATE INDEX cpo_data_transfer_by_time ON cpo_data_transfer (party_id, charging_station_id, occurred_at);
CREATE INDEX cpo_data_transfer_by_age ON cpo_data_transfer (occurred_at);

CREATE TABLE cpo_customer_information (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    request_id BIGINT NOT NULL,
    seq_no BIGINT NOT NULL,
    is_last BOOLEAN NOT NULL,
    generated_at TIMESTAMPTZ NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    page_subject TEXT NOT NULL,
    page_box BYTEA NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, request_id, seq_no)
);
CREATE INDEX cpo_customer_information_by_age ON cpo_customer_information (heard_at);

CREATE INDEX cpo_station_notice_by_age ON cpo_station_notice (action, occurred_at);
