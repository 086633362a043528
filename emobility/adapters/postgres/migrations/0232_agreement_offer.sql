-- Agreements are offered, countered, accepted and ended between parties, with both sides' signatures.

CREATE TABLE agreement_offer (
    party_id TEXT NOT NULL,
    counterparty TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    said_by TEXT NOT NULL,
    round BIGINT NOT NULL,
    agreement JSONB NOT NULL,
    counterparty_key TEXT,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, counterparty, agreement_id, version)
);

CREATE TABLE agreement_notice (
    party_id TEXT NOT NULL,
    counterparty TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    given_by TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    given_at TIMESTAMPTZ NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (party_id, counterparty, agreement_id, given_by)
);
