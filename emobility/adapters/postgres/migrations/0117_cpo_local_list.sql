-- Which tokens each station may let in by itself, what it has of them, and what it must forget.

CREATE TABLE cpo_local_list (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    chosen JSONB NOT NULL,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    needs_full BOOLEAN NOT NULL,
    change_no BIGINT NOT NULL,
    token_revision BIGINT NOT NULL,
    wanted BIGINT NOT NULL,
    answer TEXT,
    tried_at TIMESTAMPTZ,
    version_checked_at TIMESTAMPTZ,
    synced_at TIMESTAMPTZ,
    leased_until TIMESTAMPTZ,
    PRIMARY KEY (party_id, charging_station_id),
    CONSTRAINT version_is_not_negative CHECK (version >= 0)
);

CREATE INDEX cpo_local_list_by_state ON cpo_local_list (state, tried_at);

CREATE TABLE cpo_local_list_entry (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    token_subject TEXT NOT NULL,
    uid_subject TEXT NOT NULL,
    uid_box BYTEA NOT NULL,
    id_token_type TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, token_subject)
);

-- Counts the changes of a party's tokens that lists or caches must follow.
CREATE TABLE cpo_token_revision (
    party_id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    withdrawals BIGINT NOT NULL
);

CREATE TABLE cpo_token_use (
    party_id TEXT NOT NULL,
    token_subject TEXT NOT NULL,
    last_used_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, token_subject)
);

CREATE TABLE cpo_cache_clearing (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    withdrawals BIGINT NOT NULL,
    PRIMARY KEY (party_id, charging_station_id)
);

CREATE INDEX cpo_authorization_cached ON cpo_authorization (party_id, token_subject) WHERE is_accepted AND may_cache;
