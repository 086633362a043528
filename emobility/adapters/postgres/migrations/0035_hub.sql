-- The hub keeps who is connected, what it stands in front of, who may send what to whom, and which CDRs passed it.

CREATE TABLE hub_client (
    party_id TEXT NOT NULL,
    role TEXT NOT NULL,
    status TEXT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, role)
);

CREATE TABLE hub_proxied_resource (
    resource_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    user_peer_id TEXT NOT NULL,
    user_party TEXT NOT NULL,
    owner_peer_id TEXT NOT NULL,
    owner_party TEXT NOT NULL,
    url TEXT NOT NULL,
    made_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ
);

CREATE INDEX hub_proxied_resource_by_age ON hub_proxied_resource (made_at);

-- Hashes only: the hub can say which bytes passed it, and holds no driver's data.
CREATE TABLE hub_forward (
    from_party TEXT NOT NULL,
    to_party TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status_code BIGINT,
    attempts BIGINT NOT NULL,
    correlation_id TEXT NOT NULL,
    first_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (from_party, to_party, cdr_id, body_sha256)
);

CREATE TABLE hub_rule (
    receiver TEXT NOT NULL,
    sender TEXT NOT NULL,
    module TEXT NOT NULL,
    is_allowed BOOLEAN NOT NULL,
    PRIMARY KEY (receiver, sender, module)
);
