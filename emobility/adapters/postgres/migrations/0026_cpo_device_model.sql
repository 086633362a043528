-- What a station is made of, as it reported it: variables, monitors, and the reports that were asked for, page by page.

CREATE TABLE cpo_station_variable (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    component TEXT NOT NULL,
    component_instance TEXT NOT NULL,
    evse_id BIGINT NOT NULL,
    connector_id BIGINT NOT NULL,
    variable TEXT NOT NULL,
    variable_instance TEXT NOT NULL,
    attributes JSONB NOT NULL,
    characteristics JSONB,
    configuration_key TEXT,
    request_id BIGINT,
    seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (
        party_id, charging_station_id, component, component_instance, evse_id, connector_id, variable, variable_instance
    )
);

CREATE TABLE cpo_station_monitor (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    monitor_id BIGINT NOT NULL,
    component TEXT NOT NULL,
    variable TEXT NOT NULL,
    monitor JSONB NOT NULL,
    request_id BIGINT,
    seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, monitor_id)
);

CREATE TABLE cpo_station_report (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    request_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    last_seq_no BIGINT,
    pages BIGINT NOT NULL,
    answer TEXT,
    completed_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, charging_station_id, request_id),
    CONSTRAINT pages_are_not_negative CHECK (pages >= 0)
);

CREATE TABLE cpo_station_report_page (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    request_id BIGINT NOT NULL,
    seq_no BIGINT NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, request_id, seq_no)
);
