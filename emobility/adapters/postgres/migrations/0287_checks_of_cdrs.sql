-- MSPs see two drivers charged for one EVSE at one time, keep what they proposed, and copies of a CDR that differ from it.

ALTER TABLE emsp_cdr ADD COLUMN evse_uid TEXT;
UPDATE emsp_cdr SET evse_uid = cdr -> 'location' ->> 'evse_uid';
CREATE INDEX emsp_cdr_at_evse ON emsp_cdr (party_id, cpo_id, evse_uid, started_at);

ALTER TABLE emsp_dispute ADD COLUMN proposal JSONB;

CREATE TABLE emsp_cdr_conflict (
    party_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    total_excl_e4 BIGINT NOT NULL,
    currency CHAR(3) NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    document_subject TEXT,
    document_box BYTEA,
    PRIMARY KEY (party_id, cpo_id, cdr_id, content_hash)
);
