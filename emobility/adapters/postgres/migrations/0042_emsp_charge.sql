-- A charge from quote to CDR: what the driver was promised and what the CPO claims.
CREATE TABLE emsp_quote (
    party_id TEXT NOT NULL,
    quote_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    state TEXT NOT NULL,
    origin TEXT NOT NULL,
    quote JSONB NOT NULL,
    token_subject TEXT NOT NULL,
    wholesale_hash TEXT NOT NULL,
    exposure_e4 BIGINT NOT NULL,
    valid_until TIMESTAMPTZ NOT NULL,
    payment_id TEXT,
    held_e4 BIGINT NOT NULL,
    cpo_id TEXT NOT NULL,
    session_id TEXT,
    refusal TEXT,
    PRIMARY KEY (party_id, quote_id),
    CONSTRAINT exposure_is_not_negative CHECK (exposure_e4 >= 0),
    CONSTRAINT hold_is_not_negative CHECK (held_e4 >= 0)
);
CREATE INDEX emsp_quote_by_driver ON emsp_quote (party_id, driver_id, state);
CREATE INDEX emsp_quote_by_session ON emsp_quote (party_id, cpo_id, session_id);
CREATE INDEX emsp_quote_by_state ON emsp_quote (party_id, state, valid_until);

CREATE TABLE emsp_command (
    party_id TEXT NOT NULL,
    command_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    quote_id TEXT,
    session_id TEXT,
    state TEXT NOT NULL,
    result TEXT,
    timeout_s BIGINT NOT NULL,
    sent_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, command_id)
);
CREATE INDEX emsp_command_by_state ON emsp_command (state);
CREATE INDEX emsp_command_by_quote ON emsp_command (party_id, quote_id);

CREATE TABLE emsp_session (
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    quote_id TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    session JSONB NOT NULL,
    running_cost_e4 BIGINT NOT NULL,
    PRIMARY KEY (party_id, cpo_id, session_id)
);
CREATE INDEX emsp_session_by_driver ON emsp_session (party_id, driver_id);
CREATE INDEX emsp_session_by_quote ON emsp_session (party_id, quote_id);

CREATE TABLE emsp_cdr (
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    token_subject TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    decide_by TIMESTAMPTZ NOT NULL,
    state TEXT NOT NULL,
    is_deemed BOOLEAN NOT NULL,
    agreement_id TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    quote_id TEXT,
    cdr JSONB NOT NULL,
    findings JSONB NOT NULL,
    credited_by TEXT,
    PRIMARY KEY (party_id, cpo_id, cdr_id),
    CONSTRAINT decision_comes_after_receipt CHECK (decide_by >= received_at)
);
CREATE INDEX emsp_cdr_by_session ON emsp_cdr (party_id, cpo_id, session_id);
CREATE INDEX emsp_cdr_by_token ON emsp_cdr (party_id, token_subject, started_at);
CREATE INDEX emsp_cdr_by_state ON emsp_cdr (party_id, state, decide_by);

CREATE TABLE emsp_dispute (
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    findings JSONB NOT NULL,
    disputed_at TIMESTAMPTZ NOT NULL,
    resolution TEXT,
    PRIMARY KEY (party_id, cpo_id, cdr_id)
);
