-- What a receipt shows of an accepted CDR is kept sealed from the moment that its commitment is told to the settlement.
CREATE TABLE emsp_evidence (
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    bill_id TEXT NOT NULL,
    evidence_subject TEXT NOT NULL,
    evidence_box BYTEA NOT NULL,
    PRIMARY KEY (party_id, cpo_id, cdr_id)
);
CREATE INDEX emsp_evidence_by_bill ON emsp_evidence (party_id, bill_id);
