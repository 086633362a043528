-- Accepted CDRs become leaves, once each, and leaves become statements of pairs; the database itself keeps one from standing in two.
CREATE TABLE settlement_party (
    party_id TEXT NOT NULL,
    is_hosted BOOLEAN NOT NULL,
    signs TEXT NOT NULL,
    number BIGINT,
    PRIMARY KEY (party_id),
    CONSTRAINT numbers_count_from_one CHECK (number >= 1)
);

CREATE TABLE settlement_agreement (
    cpo_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    pair_secret_subject TEXT NOT NULL,
    pair_secret_box BYTEA NOT NULL,
    terms JSONB,
    closed_until TIMESTAMPTZ,
    PRIMARY KEY (cpo_id, agreement_id)
);

CREATE TABLE settlement_opening (
    cpo_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    emsp_id TEXT NOT NULL,
    currency CHAR(3) NOT NULL,
    mode TEXT NOT NULL,
    credit_limit_e4 BIGINT NOT NULL,
    document BYTEA NOT NULL,
    deadline TIMESTAMPTZ,
    book_agreement BYTEA,
    waiting TEXT,
    last_sequence BIGINT NOT NULL,
    PRIMARY KEY (cpo_id, agreement_id, version),
    CONSTRAINT credit_limit_is_not_negative CHECK (credit_limit_e4 >= 0),
    CONSTRAINT what_is_closed_was_opened CHECK (last_sequence = 0 OR book_agreement IS NOT NULL)
);
CREATE INDEX settlement_opening_unopened ON settlement_opening (cpo_id, agreement_id) WHERE book_agreement IS NULL;

CREATE TABLE settlement_statement (
    cpo_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    emsp_id TEXT NOT NULL,
    currency CHAR(3) NOT NULL,
    state TEXT NOT NULL,
    statement_hash BYTEA NOT NULL,
    book_agreement BYTEA NOT NULL,
    evidence_root BYTEA NOT NULL,
    sum_root BYTEA NOT NULL,
    due_e4 BIGINT NOT NULL,
    credit_e4 BIGINT NOT NULL,
    count BIGINT NOT NULL,
    period_start TIMESTAMPTZ NOT NULL,
    period_end TIMESTAMPTZ NOT NULL,
    closed_at TIMESTAMPTZ NOT NULL,
    batch_id BYTEA,
    position BIGINT,
    waiting TEXT,
    final_at TIMESTAMPTZ,
    PRIMARY KEY (cpo_id, agreement_id, version, sequence),
    UNIQUE (statement_hash),
    FOREIGN KEY (cpo_id, agreement_id, version) REFERENCES settlement_opening,
    CONSTRAINT sequences_count_from_one CHECK (sequence >= 1),
    CONSTRAINT a_statement_has_cdrs CHECK (count >= 1),
    CONSTRAINT amounts_are_not_negative CHECK (due_e4 >= 0 AND credit_e4 >= 0),
    CONSTRAINT a_period_has_a_length CHECK (period_end > period_start),
    CONSTRAINT in_a_batch_at_a_place CHECK ((batch_id IS NULL) = (position IS NULL)),
    CONSTRAINT final_in_a_batch CHECK (state <> 'FINAL' OR (batch_id IS NOT NULL AND final_at IS NOT NULL))
);
CREATE INDEX settlement_statement_by_state ON settlement_statement (state);
CREATE INDEX settlement_statement_by_batch ON settlement_statement (batch_id);
CREATE INDEX settlement_statement_by_emsp ON settlement_statement (emsp_id);

CREATE TABLE settlement_leaf (
    cpo_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    currency CHAR(3) NOT NULL,
    is_credit BOOLEAN NOT NULL,
    credit_reference_id TEXT,
    ended_at TIMESTAMPTZ NOT NULL,
    accepted_at TIMESTAMPTZ NOT NULL,
    cdr_key BYTEA NOT NULL,
    import_wh BIGINT NOT NULL,
    export_wh BIGINT NOT NULL,
    commitment BYTEA NOT NULL,
    due_e4 BIGINT NOT NULL,
    credit_e4 BIGINT NOT NULL,
    version BIGINT,
    sequence BIGINT,
    place BIGINT,
    PRIMARY KEY (cpo_id, cdr_id),
    FOREIGN KEY (cpo_id, agreement_id, version, sequence) REFERENCES settlement_statement,
    CONSTRAINT a_credit_names_its_original CHECK (is_credit = (credit_reference_id IS NOT NULL)),
    CONSTRAINT due_or_credited_not_both CHECK (due_e4 >= 0 AND credit_e4 >= 0 AND (due_e4 = 0 OR credit_e4 = 0)),
    CONSTRAINT energy_is_not_negative CHECK (import_wh >= 0 AND export_wh >= 0),
    CONSTRAINT in_a_statement_at_a_place CHECK (
        (version IS NULL) = (sequence IS NULL) AND (sequence IS NULL) = (place IS NULL)
    )
);
CREATE INDEX settlement_leaf_unbatched ON settlement_leaf (cpo_id, agreement_id, accepted_at) WHERE sequence IS NULL;
CREATE INDEX settlement_leaf_by_statement ON settlement_leaf (cpo_id, agreement_id, version, sequence);
