-- A party contests a CDR of a final statement; the verdict changes what its pair owes beside all statements.

CREATE TABLE settlement_resolver (
    chain_id BIGINT NOT NULL,
    book BYTEA NOT NULL,
    currency CHAR(3) NOT NULL,
    is_confidential BOOLEAN NOT NULL,
    resolver BYTEA,
    PRIMARY KEY (chain_id, book)
);

CREATE TABLE settlement_dispute (
    case_id BYTEA NOT NULL,
    kind TEXT NOT NULL,
    chain_id BIGINT NOT NULL,
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    statement_hash BYTEA NOT NULL,
    currency CHAR(3) NOT NULL,
    resolver BYTEA NOT NULL,
    claimed_e4 BIGINT,
    state TEXT NOT NULL,
    says TEXT NOT NULL,
    deadline TIMESTAMPTZ,
    corrected_e4 BIGINT,
    waiting TEXT,
    raised_at TIMESTAMPTZ NOT NULL,
    decided_at TIMESTAMPTZ,
    PRIMARY KEY (case_id, kind),
    FOREIGN KEY (cpo_id, cdr_id) REFERENCES settlement_leaf,
    CONSTRAINT raised_by_a_party_of_the_pair CHECK (party_id IN (cpo_id, emsp_id)),
    CONSTRAINT decided_with_an_amount CHECK ((state = 'DECIDED') = (corrected_e4 IS NOT NULL)),
    CONSTRAINT a_price_is_claimed CHECK ((kind = 'PRICE') = (claimed_e4 IS NOT NULL))
);
CREATE INDEX settlement_dispute_by_party ON settlement_dispute (cpo_id, emsp_id);
CREATE INDEX settlement_dispute_by_state ON settlement_dispute (state);
