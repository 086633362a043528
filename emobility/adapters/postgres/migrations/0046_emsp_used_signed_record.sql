-- A signed meter record proves one session of one CPO for ever; of CDRs accepted before this table no record is known.
CREATE TABLE emsp_used_signed_record (
    party_id TEXT NOT NULL,
    payload_sha256 TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    PRIMARY KEY (party_id, payload_sha256)
);
