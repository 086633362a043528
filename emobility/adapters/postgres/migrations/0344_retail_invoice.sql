-- Invoices to drivers by the month, credit notes, and drivers whose tokens are blocked until they paid.

CREATE TABLE emsp_seller (
    party_id TEXT NOT NULL,
    company JSONB NOT NULL,
    time_zone TEXT NOT NULL,
    PRIMARY KEY (party_id)
);

CREATE TABLE emsp_invoice (
    party_id TEXT NOT NULL,
    number TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    month TEXT NOT NULL,
    is_credit BOOLEAN NOT NULL,
    bills JSONB NOT NULL,
    exact_e4 BIGINT NOT NULL,
    carried_e4 BIGINT NOT NULL,
    gross_cents BIGINT NOT NULL,
    residue_e4 BIGINT NOT NULL,
    buyer_subject TEXT NOT NULL,
    buyer_box BYTEA NOT NULL,
    invoice JSONB NOT NULL,
    issued_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, number),
    CONSTRAINT cents_and_residue_are_the_bills CHECK (exact_e4 + carried_e4 = gross_cents * 100 + residue_e4)
);
CREATE INDEX emsp_invoice_of_driver ON emsp_invoice (party_id, driver_id);

CREATE TABLE emsp_invoiced_bill (
    party_id TEXT NOT NULL,
    bill_id TEXT NOT NULL,
    invoice_number TEXT NOT NULL,
    credit_number TEXT,
    PRIMARY KEY (party_id, bill_id)
);

CREATE TABLE emsp_invoice_account (
    party_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    residue_e4 BIGINT NOT NULL,
    PRIMARY KEY (party_id, driver_id, currency)
);

CREATE TABLE emsp_unpaid_block (
    party_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    token_subjects JSONB NOT NULL,
    blocked_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, driver_id)
);
