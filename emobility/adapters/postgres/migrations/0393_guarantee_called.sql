-- What an MSP does not pay in time its CPO takes out of its guarantee, and what was taken needs no bank any more.

CREATE TABLE settlement_guarantee (
    cpo_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    emsp_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    limit_e4 BIGINT NOT NULL,
    taken_e4 BIGINT NOT NULL,
    heard_number BIGINT NOT NULL,
    heard_hash BYTEA NOT NULL,
    waiting TEXT,
    PRIMARY KEY (cpo_id, agreement_id, version),
    CONSTRAINT no_more_is_taken_than_there_is CHECK (limit_e4 >= 0 AND taken_e4 >= 0)
);
CREATE INDEX settlement_guarantee_of_emsp ON settlement_guarantee (emsp_id);

CREATE TABLE settlement_guarantee_call (
    cpo_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    emsp_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_e4 BIGINT NOT NULL,
    transaction BYTEA NOT NULL,
    called_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cpo_id, call_id),
    CONSTRAINT a_call_takes_something CHECK (amount_e4 > 0)
);
CREATE INDEX settlement_guarantee_call_of ON settlement_guarantee_call (cpo_id, agreement_id, version);

CREATE TABLE settlement_guarantee_policy (
    party_id TEXT PRIMARY KEY,
    calls TEXT NOT NULL,
    grace_d BIGINT NOT NULL,
    CONSTRAINT grace_is_not_negative CHECK (grace_d >= 0)
);

ALTER TABLE settlement_payout ADD COLUMN taken_cents BIGINT NOT NULL DEFAULT 0
    CONSTRAINT no_more_is_taken_than_is_owed CHECK (taken_cents BETWEEN 0 AND net_cents);
CREATE INDEX settlement_payout_of_agreement ON settlement_payout (cpo_id, agreement_id, version);
