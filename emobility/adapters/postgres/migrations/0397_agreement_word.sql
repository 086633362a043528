-- A party that keeps its own key signs the agreements that a book opens; its word is kept until the other's is there.

CREATE TABLE settlement_agreement_word (
    digest BYTEA NOT NULL,
    party_id TEXT NOT NULL,
    signature BYTEA NOT NULL,
    given_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (digest, party_id)
);
