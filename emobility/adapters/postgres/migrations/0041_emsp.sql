-- An MSP's drivers, what it agreed with CPOs, and what CPOs publish.
CREATE TABLE emsp_party (
    party_id TEXT NOT NULL,
    name TEXT NOT NULL,
    nsp_id TEXT,
    PRIMARY KEY (party_id)
);

CREATE TABLE emsp_plan (
    party_id TEXT NOT NULL,
    plan_id TEXT NOT NULL,
    plan JSONB NOT NULL,
    holds_card BOOLEAN NOT NULL,
    PRIMARY KEY (party_id, plan_id)
);

CREATE TABLE emsp_driver (
    party_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    name_subject TEXT NOT NULL,
    name_box BYTEA NOT NULL,
    contract_id_subject TEXT NOT NULL,
    contract_id_box BYTEA NOT NULL,
    plan_id TEXT NOT NULL,
    currency CHAR(3) NOT NULL,
    credit_limit_e4 BIGINT NOT NULL,
    is_blocked BOOLEAN NOT NULL,
    card_subject TEXT,
    card_box BYTEA,
    card_last4 TEXT,
    password_hash TEXT,
    failed_logins BIGINT NOT NULL,
    locked_until TIMESTAMPTZ,
    PRIMARY KEY (party_id, driver_id),
    CONSTRAINT credit_limit_is_not_negative CHECK (credit_limit_e4 >= 0)
);

CREATE TABLE emsp_token (
    party_id TEXT NOT NULL,
    token_subject TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    uid_subject TEXT NOT NULL,
    uid_box BYTEA NOT NULL,
    contract_id_subject TEXT NOT NULL,
    contract_id_box BYTEA NOT NULL,
    token_type TEXT NOT NULL,
    issuer TEXT NOT NULL,
    is_valid BOOLEAN NOT NULL,
    whitelist TEXT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, token_subject)
);
CREATE INDEX emsp_token_by_driver ON emsp_token (party_id, driver_id);

CREATE TABLE emsp_agreement (
    party_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    cpo_id TEXT NOT NULL,
    state TEXT NOT NULL,
    cpo_public_key TEXT NOT NULL,
    agreement JSONB NOT NULL,
    PRIMARY KEY (party_id, agreement_id, version)
);

CREATE TABLE emsp_location (
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    location_id TEXT NOT NULL,
    location JSONB NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, cpo_id, location_id)
);

CREATE TABLE emsp_tariff_version (
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    tariff_id TEXT NOT NULL,
    in_force_from TIMESTAMPTZ NOT NULL,
    tariff_hash TEXT NOT NULL,
    tariff JSONB NOT NULL,
    ended_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, cpo_id, tariff_id, in_force_from)
);
CREATE INDEX emsp_tariff_version_by_hash ON emsp_tariff_version (party_id, cpo_id, tariff_hash);

CREATE TABLE emsp_meter_key (
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    evse_uid TEXT NOT NULL,
    public_key TEXT NOT NULL,
    is_by_operator BOOLEAN NOT NULL,
    PRIMARY KEY (party_id, cpo_id, evse_uid)
);

CREATE TABLE emsp_login (
    party_id TEXT NOT NULL,
    cookie_hash TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    csrf_token TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, cookie_hash)
);
