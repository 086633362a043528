-- Whom a CPO lets charge, and why: tokens as eMSPs push them, decisions, and eMSPs' commands.

CREATE TABLE cpo_token (
    party_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    token_subject TEXT NOT NULL,
    token_type TEXT NOT NULL,
    uid_subject TEXT NOT NULL,
    uid_box BYTEA NOT NULL,
    contract_id_subject TEXT NOT NULL,
    contract_id_box BYTEA NOT NULL,
    issuer TEXT NOT NULL,
    is_valid BOOLEAN NOT NULL,
    whitelist TEXT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, emsp_id, token_subject, token_type)
);

CREATE INDEX cpo_token_by_subject ON cpo_token (party_id, token_subject);

CREATE TABLE cpo_authorization (
    party_id TEXT NOT NULL,
    authorization_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    token_subject TEXT NOT NULL,
    is_accepted BOOLEAN NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    may_cache BOOLEAN NOT NULL,
    auth_method TEXT NOT NULL,
    decided_at TIMESTAMPTZ NOT NULL,
    ocpp_evse_id BIGINT,
    transaction_id TEXT,
    remote_start_id BIGINT,
    authorization_reference TEXT,
    emsp_id TEXT,
    token_type TEXT,
    uid_subject TEXT,
    uid_box BYTEA,
    contract_id_subject TEXT,
    contract_id_box BYTEA,
    command_id TEXT,
    PRIMARY KEY (party_id, authorization_id)
);

CREATE INDEX cpo_authorization_by_subject ON cpo_authorization (party_id, charging_station_id, token_subject, decided_at);

CREATE INDEX cpo_authorization_of_transaction ON cpo_authorization (party_id, charging_station_id, transaction_id);

-- A command is a row before it is sent, so that a crash neither forgets nor repeats it.
CREATE TABLE cpo_command (
    party_id TEXT NOT NULL,
    command_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    response TEXT NOT NULL,
    result TEXT,
    charging_station_id TEXT,
    ocpp_evse_id BIGINT,
    connector_id BIGINT,
    transaction_id TEXT,
    remote_start_id BIGINT,
    id_token_subject TEXT,
    id_token_box BYTEA,
    response_url_subject TEXT NOT NULL,
    response_url_box BYTEA NOT NULL,
    correlation_id TEXT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, command_id)
);

CREATE INDEX cpo_command_in_flight ON cpo_command (received_at) WHERE state IN ('ACCEPTED', 'SENT');
