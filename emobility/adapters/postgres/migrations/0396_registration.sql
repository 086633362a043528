-- On a chain that others administer a country's issuer registers a party: what it must send, and its bytes before they go.

CREATE TABLE settlement_registration (
    party_id TEXT PRIMARY KEY,
    signer BYTEA NOT NULL,
    payout BYTEA NOT NULL,
    deadline TIMESTAMPTZ NOT NULL,
    consent BYTEA NOT NULL,
    raw BYTEA,
    waiting TEXT,
    CONSTRAINT accounts_have_20_bytes CHECK (length(signer) = 20 AND length(payout) = 20)
);
