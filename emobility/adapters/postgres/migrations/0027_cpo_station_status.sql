-- What connectors and connections were like and when, and which outages an operator excludes: uptime is counted from it.

CREATE TABLE cpo_station_status (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    status_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    connector_id BIGINT NOT NULL,
    status TEXT NOT NULL,
    error_code TEXT,
    vendor_id TEXT,
    vendor_error_code TEXT,
    info TEXT,
    changed_at TIMESTAMPTZ NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    began_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, status_id)
);
CREATE INDEX cpo_station_status_of_connector
    ON cpo_station_status (party_id, charging_station_id, ocpp_evse_id, connector_id, began_at);
CREATE INDEX cpo_station_status_by_time ON cpo_station_status (party_id, charging_station_id, began_at);

CREATE TABLE cpo_station_connection (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    began_at TIMESTAMPTZ NOT NULL,
    is_online BOOLEAN NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, began_at)
);

CREATE TABLE cpo_outage_exclusion (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    exclusion_id TEXT NOT NULL,
    ocpp_evse_id BIGINT,
    reason TEXT NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    note TEXT NOT NULL,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, exclusion_id),
    CONSTRAINT an_exclusion_ends_after_it_begins CHECK (until > since)
);
