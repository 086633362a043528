-- Parties set rules for both directions, let apps have data until they withdraw it, and play roles a registry backs.

CREATE TABLE hub_party_rule (
    party_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    counterparty TEXT NOT NULL,
    module TEXT NOT NULL,
    is_allowed BOOLEAN NOT NULL,
    set_by TEXT NOT NULL,
    set_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, direction, counterparty, module)
);

-- hub_rule stays for a version that still reads it.
INSERT INTO hub_party_rule (party_id, direction, counterparty, module, is_allowed, set_by, set_at)
SELECT receiver, 'IN', sender, module, is_allowed, 'OPERATOR', now() FROM hub_rule;

CREATE TABLE hub_app (
    party_id TEXT PRIMARY KEY,
    named_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE hub_app_consent (
    party_id TEXT NOT NULL,
    app_id TEXT NOT NULL,
    module TEXT NOT NULL,
    granted_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    withdrawn_at TIMESTAMPTZ,
    set_by TEXT NOT NULL,
    PRIMARY KEY (party_id, app_id, module),
    CONSTRAINT a_consent_ends CHECK (expires_at > granted_at)
);

CREATE TABLE hub_role_claim (
    party_id TEXT NOT NULL,
    role TEXT NOT NULL,
    peer_id TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    checked_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, role, peer_id)
);
