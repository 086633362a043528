-- Companies that trust an operator with order but not with history settle on a ledger of rows that only grows.

CREATE TABLE ledger_entry (
    number BIGINT PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    parent_hash BYTEA NOT NULL,
    timestamp_s BIGINT NOT NULL,
    raw BYTEA NOT NULL,
    outcome BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    CONSTRAINT numbers_begin_at_zero CHECK (number >= 0)
);

CREATE TABLE ledger_countersignature (
    signer BYTEA PRIMARY KEY,
    number BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    signature BYTEA NOT NULL
);

-- Keeps mistakes out, not an operator: who may alter the table may drop this. Heads that parties keep are for that.
CREATE FUNCTION ledger_only_grows() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries of the ledger are never changed and never removed';
END
$$;

CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows();
