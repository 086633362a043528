-- Invoices between companies, numbered without a gap per issuer, series and year.

CREATE TABLE invoice_counter (
    party_id TEXT NOT NULL,
    series TEXT NOT NULL,
    year BIGINT NOT NULL,
    last BIGINT NOT NULL,
    PRIMARY KEY (party_id, series, year)
);

CREATE TABLE settlement_company (
    party_id TEXT NOT NULL,
    company JSONB NOT NULL,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id)
);

CREATE TABLE settlement_self_billing (
    cpo_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    is_agreed BOOLEAN NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cpo_id, emsp_id)
);

CREATE TABLE settlement_invoice (
    cpo_id TEXT NOT NULL,
    number TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    statement JSONB NOT NULL,
    statement_hash BYTEA NOT NULL,
    currency TEXT NOT NULL,
    gross_cents BIGINT NOT NULL,
    is_credit BOOLEAN NOT NULL,
    annex_sha256 TEXT NOT NULL,
    invoice JSONB NOT NULL,
    issued_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cpo_id, number),
    CONSTRAINT a_statement_has_one_document UNIQUE (statement_hash),
    CONSTRAINT a_document_is_not_below_zero CHECK (gross_cents >= 0)
);
CREATE INDEX settlement_invoice_of_emsp ON settlement_invoice (emsp_id, issued_at);
