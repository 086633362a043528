-- Tokens of a group work as one, and a CPO may let each token, or each group, charge at one place at a time.

ALTER TABLE cpo_token
    ADD COLUMN group_id_subject TEXT,
    ADD COLUMN group_id_box BYTEA,
    ADD COLUMN group_key TEXT;

CREATE INDEX cpo_token_of_group ON cpo_token (party_id, group_key) WHERE group_key IS NOT NULL;

ALTER TABLE cpo_authorization ADD COLUMN group_key TEXT;

CREATE TABLE cpo_authorization_policy (
    party_id TEXT PRIMARY KEY,
    concurrent_transactions TEXT NOT NULL,
    master_pass_key TEXT
);

-- Locked while a start is decided, so that of two stations which ask at once one gets the token.
CREATE TABLE cpo_token_claim (
    party_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    ocpp_evse_id BIGINT,
    transaction_id TEXT NOT NULL,
    claimed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, holder)
);

CREATE INDEX cpo_transaction_running ON cpo_transaction (party_id, token_subject) WHERE state = 'OPEN' AND NOT has_ended;
