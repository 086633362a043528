-- CPOs sell to drivers without a contract: what may be sold, each sale from hold to receipt, and invoice numbers.

CREATE TABLE cpo_ad_hoc_point (
    party_id TEXT NOT NULL,
    code TEXT NOT NULL,
    evse_uid TEXT NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, code),
    CONSTRAINT one_code_per_evse UNIQUE (party_id, evse_uid)
);

CREATE TABLE cpo_ad_hoc_sale (
    party_id TEXT NOT NULL,
    sale_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    code TEXT NOT NULL,
    evse_uid TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    connector_id BIGINT NOT NULL,
    location JSONB NOT NULL,
    tariff JSONB NOT NULL,
    tariff_hash TEXT NOT NULL,
    currency CHAR(3) NOT NULL,
    held_e4 BIGINT NOT NULL,
    uid_subject TEXT NOT NULL,
    uid_box BYTEA NOT NULL,
    token_subject TEXT NOT NULL,
    card_subject TEXT,
    card_box BYTEA,
    payment_id TEXT,
    correlation_id TEXT NOT NULL,
    made_at TIMESTAMPTZ NOT NULL,
    start_until TIMESTAMPTZ NOT NULL,
    transaction_id TEXT,
    session_id TEXT,
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    energy_import_wh BIGINT NOT NULL,
    energy_export_wh BIGINT NOT NULL,
    total_incl_e4 BIGINT NOT NULL,
    capture_e4 BIGINT NOT NULL,
    residue_e4 BIGINT NOT NULL,
    beyond_hold_e4 BIGINT NOT NULL,
    vat_e4 BIGINT NOT NULL,
    periods JSONB NOT NULL,
    signed_data JSONB,
    stop_asked_at TIMESTAMPTZ,
    failure TEXT,
    invoice_number BIGINT,
    finished_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, sale_id),
    CONSTRAINT one_sale_per_token UNIQUE (party_id, token_subject),
    CONSTRAINT no_more_is_taken_than_held CHECK (capture_e4 >= 0 AND capture_e4 <= held_e4)
);
CREATE INDEX cpo_ad_hoc_sale_open ON cpo_ad_hoc_sale (state, made_at)
    WHERE state NOT IN ('CAPTURED', 'RELEASED', 'DECLINED', 'UNCOLLECTED');
CREATE INDEX cpo_ad_hoc_sale_of_session ON cpo_ad_hoc_sale (party_id, session_id);
CREATE INDEX cpo_ad_hoc_sale_of_evse ON cpo_ad_hoc_sale (party_id, evse_uid, made_at);

CREATE TABLE cpo_invoice_counter (
    party_id TEXT NOT NULL,
    last_number BIGINT NOT NULL,
    PRIMARY KEY (party_id)
);
