-- That a driver was erased is kept, with what the law made us keep of them and until when.

CREATE TABLE emsp_erasure (
    party_id TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    state TEXT NOT NULL,
    duties JSONB NOT NULL,
    restricted_subjects JSONB NOT NULL,
    destroyed_subjects JSONB NOT NULL,
    shared BIGINT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    restricted_until TIMESTAMPTZ,
    PRIMARY KEY (party_id, driver_id),
    CONSTRAINT a_restriction_has_a_duty_and_a_date CHECK (
        state <> 'RESTRICTED' OR (restricted_until IS NOT NULL AND jsonb_array_length(duties) > 0)
    )
);

CREATE INDEX emsp_erasure_by_state ON emsp_erasure (party_id, state, restricted_until);
