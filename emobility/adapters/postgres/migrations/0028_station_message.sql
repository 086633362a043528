-- What was said with a station, redacted, while an operator wants to see it: a ring of rows, and until when.

CREATE TABLE station_message_log (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    has_heartbeats BOOLEAN NOT NULL,
    PRIMARY KEY (party_id, charging_station_id)
);

CREATE TABLE station_message (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    slot BIGINT NOT NULL,
    number BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    is_from_station BOOLEAN NOT NULL,
    ocpp_version TEXT NOT NULL,
    action TEXT NOT NULL,
    message_id TEXT NOT NULL,
    payload TEXT,
    answer TEXT,
    error_code TEXT,
    latency_ms BIGINT NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, slot)
);
