-- What a verdict took out of a batch is stated anew under the number that is free again; what was proven wrong waits.

CREATE TABLE settlement_voided_statement (
    cpo_id TEXT NOT NULL,
    statement_hash BYTEA NOT NULL,
    emsp_id TEXT NOT NULL,
    batch_id BYTEA NOT NULL REFERENCES settlement_batch,
    kind TEXT,
    case_id BYTEA,
    restated_as BYTEA,
    restated_at TIMESTAMPTZ NOT NULL,
    statement JSONB NOT NULL,
    PRIMARY KEY (cpo_id, statement_hash),
    CONSTRAINT a_proof_has_a_case CHECK ((kind IS NULL) = (case_id IS NULL))
);

CREATE INDEX settlement_voided_statement_by_batch ON settlement_voided_statement (batch_id);

CREATE TABLE settlement_held_cdr (
    cpo_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    statement_hash BYTEA NOT NULL,
    kind TEXT,
    held_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cpo_id, cdr_id),
    FOREIGN KEY (cpo_id, cdr_id) REFERENCES settlement_leaf
);

CREATE INDEX settlement_held_cdr_by_agreement ON settlement_held_cdr (cpo_id, agreement_id);
CREATE INDEX settlement_leaf_by_original ON settlement_leaf (cpo_id, credit_reference_id)
    WHERE credit_reference_id IS NOT NULL;
