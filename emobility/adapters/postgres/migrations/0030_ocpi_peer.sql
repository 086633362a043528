-- Our parties register with platforms over OCPI: who they are, what they serve, and the tokens of both directions.

CREATE TABLE ocpi_hosted_party (
    service TEXT NOT NULL,
    party_id TEXT NOT NULL,
    role TEXT NOT NULL,
    business_name TEXT NOT NULL,
    PRIMARY KEY (service, party_id)
);

CREATE TABLE ocpi_peer (
    own_party TEXT NOT NULL,
    peer_id TEXT NOT NULL,
    state TEXT NOT NULL,
    origin TEXT NOT NULL,
    versions_url TEXT NOT NULL,
    endpoints JSONB NOT NULL,
    outgoing_token_subject TEXT,
    outgoing_token_box BYTEA,
    last_updated TIMESTAMPTZ NOT NULL,
    expected_party TEXT,
    accepts_plain_token BOOLEAN NOT NULL,
    PRIMARY KEY (own_party, peer_id)
);

-- One platform per (party, role): the key refuses a second claim.
CREATE TABLE ocpi_peer_role (
    own_party TEXT NOT NULL,
    party_id TEXT NOT NULL,
    role TEXT NOT NULL,
    peer_id TEXT NOT NULL,
    business_name TEXT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (own_party, party_id, role)
);

CREATE INDEX ocpi_peer_role_of_peer ON ocpi_peer_role (own_party, peer_id);

-- Tokens that peers present, by hash: reading this table opens no door.
CREATE TABLE ocpi_incoming_token (
    token_hash TEXT PRIMARY KEY,
    own_party TEXT NOT NULL,
    peer_id TEXT NOT NULL,
    token_use TEXT NOT NULL
);

CREATE INDEX ocpi_incoming_token_of_peer ON ocpi_incoming_token (own_party, peer_id);
