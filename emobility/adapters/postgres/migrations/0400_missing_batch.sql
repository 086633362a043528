-- A confidential batch that stands on the chain and not in these rows, which are older; its pairs wait for a word.

CREATE TABLE settlement_missing_batch (
    chain_id BIGINT NOT NULL,
    batch_id BYTEA NOT NULL,
    currency TEXT NOT NULL,
    transaction BYTEA NOT NULL,
    hashes BYTEA NOT NULL,
    pairs JSONB NOT NULL,
    found_at TIMESTAMPTZ NOT NULL,
    word JSONB,
    PRIMARY KEY (chain_id, batch_id)
);
