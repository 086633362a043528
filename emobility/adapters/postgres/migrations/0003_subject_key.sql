-- Each person's data are sealed under a key of their own; to erase the person is to destroy the key.

CREATE TABLE subject_key (
    subject TEXT PRIMARY KEY,
    wrapped_key BYTEA,
    created_at TIMESTAMPTZ NOT NULL,
    erased_at TIMESTAMPTZ,
    CONSTRAINT key_or_erased CHECK ((wrapped_key IS NULL) = (erased_at IS NOT NULL))
);
