-- A stuck transaction is signed again with more to offer, and any of its variants may be mined: each is kept.
CREATE TABLE settlement_transaction_variant (
    hash BYTEA NOT NULL,
    transaction_id TEXT NOT NULL,
    chain_id BIGINT NOT NULL,
    account BYTEA NOT NULL,
    nonce BIGINT NOT NULL,
    raw BYTEA NOT NULL,
    fence BIGINT NOT NULL,
    signed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (hash)
);
CREATE INDEX settlement_transaction_variant_of ON settlement_transaction_variant (transaction_id, signed_at);

-- One process sends. Its fence number grows with each change of hands, and nothing is signed under an older one.
CREATE TABLE settlement_lease (
    name TEXT NOT NULL,
    fence BIGINT NOT NULL,
    holder TEXT,
    beat BIGINT NOT NULL,
    PRIMARY KEY (name)
);

-- What an account may spend stands beside its nonce, so that a restart does not begin the day anew.
ALTER TABLE settlement_account
    ADD COLUMN spent_gwei BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN spent_since TIMESTAMPTZ,
    ADD COLUMN signed_count BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN signed_since TIMESTAMPTZ;

-- How far the chain was looked through for what these rows might lack, when they were restored from a copy.
ALTER TABLE settlement_chain ADD COLUMN looked_to BIGINT NOT NULL DEFAULT 0;
