-- What others raise on the chain against parties that settle here is heard, kept with its deadline, and answered in time.

ALTER TABLE settlement_dispute ALTER COLUMN party_id DROP NOT NULL;
ALTER TABLE settlement_dispute ALTER COLUMN cdr_id DROP NOT NULL;
ALTER TABLE settlement_dispute ALTER COLUMN statement_hash DROP NOT NULL;
ALTER TABLE settlement_dispute ADD COLUMN turn_of TEXT;
ALTER TABLE settlement_dispute ADD COLUMN stated_e4 BIGINT;
ALTER TABLE settlement_dispute ADD COLUMN bond_e4 BIGINT;
ALTER TABLE settlement_dispute ADD CONSTRAINT turn_of_a_party_of_the_pair CHECK (turn_of IN (cpo_id, emsp_id));
ALTER TABLE settlement_dispute ADD CONSTRAINT a_cdr_stands_in_a_statement CHECK ((cdr_id IS NULL) = (statement_hash IS NULL));

CREATE TABLE settlement_dispute_policy (
    party_id TEXT PRIMARY KEY,
    reveals TEXT NOT NULL,
    defends TEXT NOT NULL
);

CREATE TABLE settlement_dispute_heard (
    chain_id BIGINT NOT NULL,
    contract BYTEA NOT NULL,
    book BYTEA NOT NULL,
    currency CHAR(3) NOT NULL,
    is_confidential BOOLEAN NOT NULL,
    last_number BIGINT NOT NULL,
    last_hash BYTEA NOT NULL,
    PRIMARY KEY (chain_id, contract)
);
