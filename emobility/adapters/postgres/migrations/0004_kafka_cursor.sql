-- With Kafka a group's place lies here, beside the effects of what it read, and moves with them.

CREATE TABLE kafka_cursor (
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition BIGINT NOT NULL,
    topic_id TEXT NOT NULL,  -- a topic made anew has another: old offsets mean nothing in it
    next_offset BIGINT NOT NULL,
    relayed_to BIGINT NOT NULL DEFAULT 0,  -- outbox offset: a relay that repeats itself is recognised by it
    PRIMARY KEY (group_name, topic, partition),
    CONSTRAINT next_offset_is_not_negative CHECK (next_offset >= 0)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
