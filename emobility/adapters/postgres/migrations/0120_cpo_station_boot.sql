-- What a station said it is, what it was asked and what its meters said outside transactions: why a charge failed is told from it.

CREATE TABLE cpo_station_boot (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    booted_at TIMESTAMPTZ NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    ocpp_version TEXT NOT NULL,
    vendor TEXT NOT NULL,
    model TEXT NOT NULL,
    serial_number TEXT,
    firmware_version TEXT,
    reason TEXT,
    PRIMARY KEY (party_id, charging_station_id, boot_id)
);
CREATE INDEX cpo_station_boot_by_time ON cpo_station_boot (party_id, charging_station_id, heard_at);

CREATE TABLE cpo_station_identity (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_version TEXT NOT NULL,
    vendor TEXT NOT NULL,
    model TEXT NOT NULL,
    serial_number TEXT,
    firmware_version TEXT,
    heard_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id)
);

CREATE TABLE cpo_station_call (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    action TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    correlation_id TEXT NOT NULL,
    result TEXT,
    detail TEXT,
    answered_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, charging_station_id, call_id)
);
CREATE INDEX cpo_station_call_by_time ON cpo_station_call (party_id, charging_station_id, asked_at);

CREATE TABLE cpo_evse_reading (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    reading_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    readings JSONB NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, reading_id)
);
CREATE INDEX cpo_evse_reading_by_time ON cpo_evse_reading (party_id, charging_station_id, ocpp_evse_id, occurred_at);

CREATE INDEX cpo_transaction_by_time ON cpo_transaction (party_id, first_at);

CREATE INDEX cpo_authorization_by_time ON cpo_authorization (party_id, charging_station_id, decided_at);
