-- A producer may repeat itself, so each group remembers what it has seen; what it can't handle waits aside, whole.

CREATE TABLE inbox (
    group_name TEXT NOT NULL,
    event_id TEXT NOT NULL,
    content_hash BYTEA NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (group_name, event_id)
);
CREATE INDEX inbox_by_age ON inbox (seen_at);

CREATE TABLE parked_key (
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (group_name, topic, key)
);

CREATE TABLE dead_letter (
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    envelope BYTEA NOT NULL,
    parked_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (group_name, topic, partition, log_offset)
);
CREATE INDEX dead_letter_by_key ON dead_letter (group_name, topic, key, log_offset);
