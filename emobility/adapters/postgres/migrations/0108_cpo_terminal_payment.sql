-- What drivers paid at stations without a contract, receipts for it, and VAT numbers they gave.

CREATE TABLE cpo_terminal_payment (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    psp_reference_subject TEXT,
    psp_reference_box BYTEA,
    transaction_id TEXT,
    status TEXT NOT NULL,
    amount NUMERIC NOT NULL,
    settled_at TIMESTAMPTZ NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    message_subject TEXT,
    message_box BYTEA,
    PRIMARY KEY (party_id, charging_station_id, payment_id)
);
CREATE INDEX cpo_terminal_payment_by_time ON cpo_terminal_payment (party_id, charging_station_id, heard_at);

CREATE TABLE cpo_payment_receipt (
    party_id TEXT NOT NULL,
    psp_subject TEXT NOT NULL,
    receipt_url TEXT,
    receipt_id TEXT,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, psp_subject),
    CONSTRAINT receipt_names_something CHECK (receipt_url IS NOT NULL OR receipt_id IS NOT NULL)
);

CREATE TABLE cpo_web_payment (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    web_payment_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, web_payment_id)
);
CREATE INDEX cpo_web_payment_by_time ON cpo_web_payment (party_id, charging_station_id, started_at);
CREATE INDEX cpo_web_payment_by_age ON cpo_web_payment (started_at);

CREATE TABLE cpo_vat_check (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    check_id TEXT NOT NULL,
    vat_number_subject TEXT,
    vat_number_box BYTEA,
    ocpp_evse_id BIGINT,
    is_valid BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    checked_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, check_id)
);
CREATE INDEX cpo_vat_check_by_time ON cpo_vat_check (party_id, charging_station_id, checked_at);
