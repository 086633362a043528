-- A book names an agreement by its parties and a number, and a guarantee is called when the payment term is over.

ALTER TABLE settlement_opening
    ADD COLUMN payment_terms_d BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN number BIGINT,
    ADD CONSTRAINT payment_term_is_not_negative CHECK (payment_terms_d >= 0);
