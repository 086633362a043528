-- Parties compare invoices CDR by CDR: the records that were issued and received, with their answers.

CREATE TABLE invoice_reconciliation (
    party_id TEXT NOT NULL,
    counterparty TEXT NOT NULL,
    issued_by TEXT NOT NULL,
    record_id TEXT NOT NULL,
    invoice_id TEXT NOT NULL,
    currency CHAR(3),
    lines JSONB NOT NULL,
    period_since TIMESTAMPTZ,
    period_until TIMESTAMPTZ,
    issued_at TIMESTAMPTZ NOT NULL,
    state TEXT NOT NULL,
    answers JSONB NOT NULL,
    answered_at TIMESTAMPTZ,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, counterparty, issued_by, record_id)
);
CREATE INDEX invoice_reconciliation_that_differs ON invoice_reconciliation (party_id, entered_at)
    WHERE state = 'DIFFERS';

CREATE TABLE invoiced_cdr (
    party_id TEXT NOT NULL,
    counterparty TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    record_id TEXT NOT NULL,
    PRIMARY KEY (party_id, counterparty, cdr_id)
);
