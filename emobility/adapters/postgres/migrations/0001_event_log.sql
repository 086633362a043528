-- Every event gets a dense offset per partition, so that offset order is commit order and a cursor is one integer.

-- The counter of a partition: an append raises it last and holds the row to its commit.
CREATE TABLE event_partition (
    topic TEXT NOT NULL,
    partition BIGINT NOT NULL,
    first_offset BIGINT NOT NULL DEFAULT 0,
    head BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition),
    CONSTRAINT head_is_not_before_first CHECK (head >= first_offset)
) WITH (
    fillfactor = 10,  -- every append changes a row: leave room beside it
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000
);

-- Events lie in segments of consecutive offsets; an old segment is dropped as a whole.
CREATE TABLE event (
    topic TEXT NOT NULL,
    partition BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    key TEXT NOT NULL,
    envelope BYTEA NOT NULL,
    stored_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (topic, partition, log_offset)
) PARTITION BY RANGE (topic, log_offset);

CREATE TABLE event_segment (
    topic TEXT NOT NULL,
    first_offset BIGINT NOT NULL,
    end_offset BIGINT NOT NULL,
    table_name TEXT NOT NULL,
    PRIMARY KEY (topic, first_offset),
    CONSTRAINT segment_is_not_empty CHECK (end_offset > first_offset)
);

-- Appends runs of events, one run per partition. The caller sends the runs in ascending order of (topic, partition):
-- so two writers never wait for each other in a circle. Returns the highest head reached.
CREATE FUNCTION append_events(
    run_topics TEXT[], run_partitions BIGINT[], run_lengths BIGINT[], keys TEXT[], envelopes BYTEA[], now TIMESTAMPTZ
) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    begins BIGINT := 1;
    ends BIGINT;
    new_head BIGINT;
    highest BIGINT := 0;
BEGIN
    FOR run IN 1 .. cardinality(run_topics) LOOP
        UPDATE event_partition
        SET head = head + run_lengths[run]
        WHERE event_partition.topic = run_topics[run] AND event_partition.partition = run_partitions[run]
        RETURNING head INTO STRICT new_head;

        ends := begins + run_lengths[run] - 1;
        INSERT INTO event (topic, partition, log_offset, key, envelope, stored_at)
        SELECT run_topics[run], run_partitions[run], new_head - run_lengths[run] + one.place - 1, one.key, one.envelope, now
        FROM unnest(keys[begins:ends], envelopes[begins:ends]) WITH ORDINALITY AS one (key, envelope, place);

        begins := ends + 1;
        highest := greatest(highest, new_head);
    END LOOP;
    RETURN highest;
END
$$;

-- Where a group goes on reading. It moves in the transaction that holds the effects of what was read.
CREATE TABLE group_cursor (
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (group_name, topic, partition),
    CONSTRAINT next_offset_is_not_negative CHECK (next_offset >= 0)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
