-- Bills, accounts and payments of drivers, exact to the ten-thousandth; the database itself keeps accounts balanced.
CREATE TABLE emsp_bill (
    party_id TEXT NOT NULL,
    bill_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    quote_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    total_excl_e4 BIGINT NOT NULL,
    total_incl_e4 BIGINT NOT NULL,
    credited_incl_e4 BIGINT NOT NULL,
    currency CHAR(3) NOT NULL,
    billed_at TIMESTAMPTZ NOT NULL,
    lines JSONB NOT NULL,
    notes JSONB NOT NULL,
    PRIMARY KEY (party_id, bill_id),
    CONSTRAINT credit_is_none_or_whole CHECK (credited_incl_e4 IN (0, total_incl_e4))
);
CREATE INDEX emsp_bill_by_driver ON emsp_bill (party_id, driver_id);
CREATE INDEX emsp_bill_by_quote ON emsp_bill (party_id, quote_id);

CREATE TABLE emsp_account (
    party_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    currency CHAR(3) NOT NULL,
    billed_e4 BIGINT NOT NULL,
    credited_e4 BIGINT NOT NULL,
    paid_e4 BIGINT NOT NULL,
    due_e4 BIGINT NOT NULL,
    carry_e4 BIGINT NOT NULL,
    PRIMARY KEY (party_id, driver_id, currency),
    CONSTRAINT account_is_balanced CHECK (billed_e4 - credited_e4 - paid_e4 = due_e4 + carry_e4)
);

CREATE TABLE emsp_payment_order (
    party_id TEXT NOT NULL,
    order_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    quote_id TEXT NOT NULL,
    bill_id TEXT,
    kind TEXT NOT NULL,
    payment_id TEXT,
    amount_e4 BIGINT NOT NULL,
    refunded_e4 BIGINT NOT NULL,
    currency CHAR(3) NOT NULL,
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    failure TEXT,
    ordered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, order_id),
    CONSTRAINT payment_is_in_whole_cents CHECK (amount_e4 >= 0 AND amount_e4 % 100 = 0),
    CONSTRAINT refund_stays_within_payment CHECK (refunded_e4 BETWEEN 0 AND amount_e4)
);
CREATE INDEX emsp_payment_order_by_state ON emsp_payment_order (state, ordered_at);
CREATE INDEX emsp_payment_order_by_bill ON emsp_payment_order (party_id, bill_id);
CREATE INDEX emsp_payment_order_by_driver ON emsp_payment_order (party_id, driver_id);
