-- Confidential mode: statements that their parties sign sealed, batches of salted hashes, and each party's signed net.

CREATE TABLE settlement_confidential_book (
    chain_id BIGINT NOT NULL,
    currency TEXT NOT NULL,
    book BYTEA NOT NULL,
    registry BYTEA NOT NULL,
    vault BYTEA NOT NULL,
    PRIMARY KEY (chain_id, currency)
);

CREATE TABLE settlement_confidential_batch (
    batch_id BYTEA NOT NULL,
    currency TEXT NOT NULL,
    chain_id BIGINT NOT NULL,
    book BYTEA NOT NULL,
    hashes BYTEA NOT NULL,
    state TEXT NOT NULL,
    waiting TEXT,
    settled_in BYTEA,
    formed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (batch_id),
    CONSTRAINT final_in_a_transaction CHECK (state <> 'FINAL' OR settled_in IS NOT NULL)
);
CREATE INDEX settlement_confidential_batch_unfinished ON settlement_confidential_batch (state)
    WHERE state IN ('COLLECTING', 'SENDING');

CREATE TABLE settlement_sealed_statement (
    cpo_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    emsp_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    chain_id BIGINT NOT NULL,
    cpo_number BIGINT NOT NULL,
    msp_number BIGINT NOT NULL,
    struct_hash BYTEA NOT NULL,
    posted BYTEA NOT NULL,
    by_cpo BYTEA,
    by_msp BYTEA,
    batch_id BYTEA REFERENCES settlement_confidential_batch,
    position BIGINT,
    PRIMARY KEY (cpo_id, agreement_id, version, sequence),
    FOREIGN KEY (cpo_id, agreement_id, version, sequence) REFERENCES settlement_statement,
    CONSTRAINT nothing_is_batched_before_both_signed
        CHECK (batch_id IS NULL OR (by_cpo IS NOT NULL AND by_msp IS NOT NULL)),
    CONSTRAINT in_a_batch_at_a_place CHECK ((batch_id IS NULL) = (position IS NULL))
);
CREATE INDEX settlement_sealed_statement_by_batch ON settlement_sealed_statement (batch_id);

CREATE TABLE settlement_party_net (
    batch_id BYTEA NOT NULL REFERENCES settlement_confidential_batch,
    party_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    net_e4 BIGINT NOT NULL,
    nonce BIGINT NOT NULL,
    signature BYTEA,
    signer BYTEA,
    failed TEXT,
    formed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (batch_id, party_id),
    CONSTRAINT signed_by_somebody CHECK ((signature IS NULL) = (signer IS NULL))
);
CREATE INDEX settlement_party_net_by_party ON settlement_party_net (party_id, formed_at);

-- Only these kinds are of a batch in an open book.
ALTER TABLE settlement_transaction DROP COLUMN batch_proposed;
ALTER TABLE settlement_transaction ADD COLUMN batch_proposed BYTEA
    GENERATED ALWAYS AS (CASE WHEN kind IN ('PROPOSE', 'FUND') THEN batch_id END) STORED REFERENCES settlement_batch;
