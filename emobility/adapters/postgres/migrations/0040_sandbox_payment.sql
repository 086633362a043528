-- The test payment provider keeps payments and first answers, so that a crash between a capture and its answer loses neither.
CREATE TABLE sandbox_payment (
    payment_id TEXT PRIMARY KEY,
    card_behaviour TEXT NOT NULL,
    card_last4 TEXT NOT NULL,
    currency CHAR(3) NOT NULL,
    held_e4 BIGINT NOT NULL,
    captured_e4 BIGINT NOT NULL,
    refunded_e4 BIGINT NOT NULL,
    is_open BOOLEAN NOT NULL,
    CONSTRAINT nothing_is_held_below_zero CHECK (held_e4 >= 0),
    CONSTRAINT refunds_stay_within_captures CHECK (refunded_e4 >= 0 AND refunded_e4 <= captured_e4)
);

CREATE TABLE sandbox_payment_answer (
    idempotency_key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    hold JSONB,
    declined_code TEXT
);
