-- A party's systems call our APIs with tokens of their own; only a keyed hash of each is kept, so a stolen table opens nothing.

CREATE TABLE party_api_token (
    party_id TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    purpose TEXT NOT NULL,
    issued_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, token_hash),
    CONSTRAINT a_token_names_one_party UNIQUE (token_hash)
);
