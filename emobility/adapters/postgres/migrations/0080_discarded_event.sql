-- A dead letter may be discarded, but never without a trace: the audit counts it as handled by whoever said why.

CREATE TABLE discarded_event (
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,  -- why it could not be handled
    envelope BYTEA NOT NULL,
    parked_at TIMESTAMPTZ NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,  -- it was discarded
    discarded_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (group_name, topic, partition, log_offset),
    CONSTRAINT discarder_is_named CHECK (who <> ''),
    CONSTRAINT discard_is_explained CHECK (why <> '')
);
