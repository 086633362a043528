-- Messages between parties are signed: which keys are whose, who must sign to whom, and which signatures were seen.

-- `holder`: the party whose operator told the key and who goes by it; '*' for keys of this installation and of a registry.
CREATE TABLE ocpi_party_key (
    holder TEXT NOT NULL,
    party_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    source TEXT NOT NULL,
    generation BIGINT,
    valid_from TIMESTAMPTZ NOT NULL,
    valid_until TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    PRIMARY KEY (holder, party_id, key_id),
    CONSTRAINT our_own_keys_have_a_generation CHECK ((source = 'OWN') = (generation IS NOT NULL))
);

CREATE TABLE ocpi_signature_rule (
    own_party TEXT NOT NULL,
    party_id TEXT NOT NULL,
    is_required BOOLEAN NOT NULL,
    PRIMARY KEY (own_party, party_id)
);

-- Bounded by age: what is too old to be accepted need not be remembered.
CREATE TABLE ocpi_seen_signature (
    own_party TEXT NOT NULL,
    signer TEXT NOT NULL,
    nonce TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (own_party, signer, nonce)
);

CREATE INDEX ocpi_seen_signature_by_age ON ocpi_seen_signature (expires_at);
