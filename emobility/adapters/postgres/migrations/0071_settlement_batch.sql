-- What is sent to a chain is stored before it is sent: a batch, its signatures, and the very bytes of each transaction.
CREATE TABLE settlement_batch (
    batch_id BYTEA NOT NULL,
    currency CHAR(3) NOT NULL,
    chain_id BIGINT NOT NULL,
    book BYTEA NOT NULL,
    pairs_hash BYTEA NOT NULL,
    statements JSONB NOT NULL,
    state TEXT NOT NULL,
    waiting TEXT,
    proposed_in BYTEA,
    formed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (batch_id),
    CONSTRAINT final_in_a_transaction CHECK (state <> 'FINAL' OR proposed_in IS NOT NULL)
);
CREATE INDEX settlement_batch_unfinished ON settlement_batch (state) WHERE state <> 'FINAL';
ALTER TABLE settlement_statement ADD FOREIGN KEY (batch_id) REFERENCES settlement_batch;

CREATE TABLE settlement_acceptance (
    batch_id BYTEA NOT NULL REFERENCES settlement_batch,
    party_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    pairs BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    signed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (batch_id, party_id)
);

CREATE TABLE settlement_transaction (
    transaction_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    batch_id BYTEA NOT NULL REFERENCES settlement_batch,
    chain_id BIGINT NOT NULL,
    account BYTEA NOT NULL,
    receiver BYTEA NOT NULL,
    calldata BYTEA NOT NULL,
    state TEXT NOT NULL,
    nonce BIGINT,
    raw BYTEA,
    hash BYTEA,
    block_number BIGINT,
    block_hash BYTEA,
    gas_used BIGINT,
    waiting TEXT,
    queued_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (transaction_id),
    UNIQUE (chain_id, account, nonce),
    CONSTRAINT bytes_come_with_a_nonce CHECK ((nonce IS NULL) = (raw IS NULL)),
    CONSTRAINT nothing_is_sent_before_it_is_stored CHECK (state = 'QUEUED' OR hash IS NOT NULL),
    CONSTRAINT mined_in_a_block CHECK ((state IN ('MINED', 'FINAL')) = (block_hash IS NOT NULL))
);
CREATE INDEX settlement_transaction_by_batch ON settlement_transaction (batch_id);
CREATE INDEX settlement_transaction_unfinished ON settlement_transaction (state) WHERE state <> 'FINAL';
CREATE INDEX settlement_transaction_by_block ON settlement_transaction (block_number) WHERE state = 'FINAL';

CREATE TABLE settlement_account (
    chain_id BIGINT NOT NULL,
    account BYTEA NOT NULL,
    next_nonce BIGINT NOT NULL,
    PRIMARY KEY (chain_id, account)
);

CREATE TABLE settlement_chain (
    chain_id BIGINT NOT NULL,
    genesis_hash BYTEA NOT NULL,
    final_number BIGINT NOT NULL,
    final_hash BYTEA NOT NULL,
    alarm TEXT,
    PRIMARY KEY (chain_id)
);

CREATE TABLE settlement_deployment (
    chain_id BIGINT NOT NULL,
    deployment JSONB NOT NULL,
    PRIMARY KEY (chain_id)
);
