-- Roots that others want recorded on the chain; each is recorded once, for ever.

CREATE TABLE settlement_anchor (
    party_id TEXT NOT NULL,
    kind BYTEA NOT NULL,
    period_start TIMESTAMPTZ NOT NULL,
    root BYTEA NOT NULL,
    anchor_id BYTEA NOT NULL,
    state TEXT NOT NULL,
    waiting TEXT,
    requested_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, kind, period_start),
    CONSTRAINT an_anchor_has_one_name UNIQUE (anchor_id),
    CONSTRAINT a_root_is_a_hash CHECK (length(root) = 32)
);
