-- Money by bank: what a final statement comes to in cents, payments of it, what a bank says moved, and discharges.

CREATE TABLE settlement_bank_account (
    party_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    name TEXT NOT NULL,
    iban TEXT NOT NULL,
    bic TEXT,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, currency)
);

CREATE TABLE settlement_mandate (
    cpo_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    mandate_id TEXT NOT NULL,
    signed_on JSONB NOT NULL,
    scheme TEXT NOT NULL,
    creditor_id TEXT NOT NULL,
    is_ended BOOLEAN NOT NULL,
    PRIMARY KEY (cpo_id, emsp_id)
);

CREATE TABLE settlement_guarantee (
    cpo_id TEXT NOT NULL,
    guarantee_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    guarantor TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_e4 BIGINT NOT NULL,
    valid_until JSONB NOT NULL,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cpo_id, guarantee_id),
    CONSTRAINT a_guarantee_bears_something CHECK (amount_e4 > 0)
);

CREATE TABLE settlement_payable (
    cpo_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    emsp_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    statement_hash BYTEA NOT NULL,
    exact_e4 BIGINT NOT NULL,
    carried_e4 BIGINT NOT NULL,
    net_cents BIGINT NOT NULL,
    residue_e4 BIGINT NOT NULL,
    is_prepaid BOOLEAN NOT NULL,
    vat_cents BIGINT NOT NULL,
    regime TEXT,
    vat_percent NUMERIC NOT NULL,
    legal_reference TEXT,
    tax_waits TEXT,
    final_at TIMESTAMPTZ NOT NULL,
    due_on JSONB NOT NULL,
    end_to_end_id TEXT NOT NULL,
    paid_by TEXT,
    invoice_number TEXT,
    PRIMARY KEY (cpo_id, agreement_id, version, sequence),
    CONSTRAINT cents_and_residue_are_all_of_it CHECK (exact_e4 + carried_e4 = net_cents * 100 + residue_e4),
    CONSTRAINT a_residue_is_below_a_cent CHECK (abs(residue_e4) < 100)
);
CREATE INDEX settlement_payable_of_emsp ON settlement_payable (emsp_id, currency, paid_by);
CREATE INDEX settlement_payable_by_name ON settlement_payable (end_to_end_id);

CREATE TABLE settlement_payout (
    cpo_id TEXT NOT NULL,
    end_to_end_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    currency TEXT NOT NULL,
    net_cents BIGINT NOT NULL,
    vat_cents BIGINT NOT NULL,
    due_on JSONB NOT NULL,
    made_at TIMESTAMPTZ NOT NULL,
    arrived_cents BIGINT NOT NULL,
    sent_cents BIGINT NOT NULL,
    discharged_e4 BIGINT NOT NULL,
    last_booked_at TIMESTAMPTZ,
    exported_in TEXT,
    PRIMARY KEY (cpo_id, end_to_end_id),
    CONSTRAINT a_payment_moves_something CHECK (net_cents + vat_cents > 0),
    CONSTRAINT no_more_arrives_than_is_owed CHECK (arrived_cents BETWEEN 0 AND net_cents + vat_cents),
    CONSTRAINT no_more_is_sent_than_is_owed CHECK (sent_cents BETWEEN 0 AND net_cents + vat_cents),
    CONSTRAINT no_more_is_discharged_than_owed CHECK (discharged_e4 BETWEEN 0 AND net_cents * 100)
);
CREATE INDEX settlement_payout_of_emsp ON settlement_payout (emsp_id, end_to_end_id);

CREATE TABLE settlement_bank_export (
    party_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    currency TEXT NOT NULL,
    orders BIGINT NOT NULL,
    cents BIGINT NOT NULL,
    document BYTEA NOT NULL,
    made_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, message_id)
);

CREATE TABLE settlement_bank_entry (
    party_id TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    outcome TEXT NOT NULL,
    is_late BOOLEAN NOT NULL,
    is_open BOOLEAN NOT NULL,
    booked_cents BIGINT NOT NULL,
    excess_cents BIGINT NOT NULL,
    cpo_id TEXT,
    end_to_end_id TEXT,
    entry JSONB NOT NULL,
    message_id TEXT NOT NULL,
    imported_at TIMESTAMPTZ NOT NULL,
    resolution TEXT,
    PRIMARY KEY (party_id, entry_id)
);
CREATE INDEX settlement_bank_entry_open ON settlement_bank_entry (party_id, imported_at) WHERE is_open;

CREATE TABLE settlement_discharge (
    cpo_id TEXT NOT NULL,
    discharge_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    currency TEXT NOT NULL,
    end_to_end_id TEXT NOT NULL,
    amount_e4 BIGINT NOT NULL,
    state TEXT NOT NULL,
    not_before TIMESTAMPTZ NOT NULL,
    made_at TIMESTAMPTZ NOT NULL,
    number BIGINT,
    by_cpo BYTEA,
    by_msp BYTEA,
    waiting TEXT,
    PRIMARY KEY (cpo_id, discharge_id),
    CONSTRAINT a_discharge_lowers_what_is_owed CHECK (amount_e4 > 0)
);
CREATE INDEX settlement_discharge_under_way ON settlement_discharge (made_at) WHERE state <> 'FINAL';
