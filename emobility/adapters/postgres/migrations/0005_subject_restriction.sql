-- Evidence that the law makes us keep is closed to all but its own use until a date; every process sees it at once.

ALTER TABLE subject_key ADD COLUMN restricted_until TIMESTAMPTZ;
ALTER TABLE subject_key ADD CONSTRAINT an_erased_key_is_restricted_no_more
    CHECK (erased_at IS NULL OR restricted_until IS NULL);

CREATE INDEX subject_key_restricted ON subject_key (restricted_until) WHERE restricted_until IS NOT NULL;

-- One row, raised with every erasure and restriction: keys that a process remembers from an older epoch count no more.
CREATE TABLE subject_key_epoch (
    is_the_one BOOLEAN PRIMARY KEY DEFAULT TRUE,
    epoch BIGINT NOT NULL,
    CONSTRAINT there_is_one CHECK (is_the_one)
);

INSERT INTO subject_key_epoch (epoch) VALUES (0);
