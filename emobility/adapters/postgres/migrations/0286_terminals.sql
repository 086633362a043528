-- Drivers pay at terminals (OCPI 2.3.0, payments): terminals, what was captured there, and one list of all ad hoc money.

ALTER TABLE cpo_ad_hoc_sale
    ADD COLUMN ptp_id TEXT,
    ADD COLUMN terminal_id TEXT,
    ADD COLUMN authorization_reference TEXT,
    ADD COLUMN told_uid_subject TEXT,
    ADD COLUMN told_uid_box BYTEA,
    ADD COLUMN told_contract_id_subject TEXT,
    ADD COLUMN told_contract_id_box BYTEA,
    ADD COLUMN is_invoiced_here BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN refund_e4 BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN refunded_e4 BIGINT NOT NULL DEFAULT 0,
    ADD CONSTRAINT no_more_is_given_back_than_is_due CHECK (refunded_e4 >= 0 AND refunded_e4 <= refund_e4);
CREATE INDEX cpo_ad_hoc_sale_by_reference ON cpo_ad_hoc_sale (party_id, ptp_id, authorization_reference);

CREATE TABLE cpo_terminal (
    party_id TEXT NOT NULL,
    ptp_id TEXT NOT NULL,
    terminal_id TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    terminal JSONB NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, ptp_id, terminal_id)
);

CREATE TABLE cpo_financial_advice (
    party_id TEXT NOT NULL,
    ptp_id TEXT NOT NULL,
    advice_id TEXT NOT NULL,
    sale_id TEXT NOT NULL,
    status TEXT NOT NULL,
    amount_e4 BIGINT NOT NULL,
    currency CHAR(3) NOT NULL,
    document_subject TEXT NOT NULL,
    document_box BYTEA NOT NULL,
    content_hash TEXT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, ptp_id, advice_id)
);
CREATE INDEX cpo_financial_advice_of_sale ON cpo_financial_advice (party_id, sale_id);

CREATE TABLE cpo_ad_hoc_entry (
    party_id TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    amount_e4 BIGINT NOT NULL,
    currency CHAR(3),
    sale_id TEXT,
    charging_station_id TEXT,
    transaction_id TEXT,
    session_id TEXT,
    reference_subject TEXT,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, entry_id),
    CONSTRAINT an_amount_is_not_negative CHECK (amount_e4 >= 0)
);
CREATE INDEX cpo_ad_hoc_entry_by_time ON cpo_ad_hoc_entry (party_id, entered_at);

-- What was taken before there was this list belongs on it.
INSERT INTO cpo_ad_hoc_entry (party_id, entry_id, channel, kind, amount_e4, currency, sale_id, charging_station_id,
                              transaction_id, session_id, entered_at)
SELECT party_id, 'sale-before/' || token_subject, channel, 'TAKEN', capture_e4, currency, sale_id, charging_station_id,
       transaction_id, session_id, COALESCE(finished_at, made_at)
FROM cpo_ad_hoc_sale
WHERE state = 'CAPTURED' AND capture_e4 > 0;
