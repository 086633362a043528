-- A leaf commits to the meter's signed records, and the pair can open that commitment in a dispute until the driver is erased.

ALTER TABLE settlement_leaf ADD COLUMN meter BYTEA NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000';
ALTER TABLE settlement_leaf ALTER COLUMN meter DROP DEFAULT;

CREATE TABLE settlement_meter_record (
    cpo_id TEXT NOT NULL,
    cdr_id TEXT NOT NULL,
    emsp_id TEXT NOT NULL,
    public_key TEXT NOT NULL,
    records JSONB NOT NULL,
    salt_subject TEXT NOT NULL,
    salt_box BYTEA NOT NULL,
    PRIMARY KEY (cpo_id, cdr_id),
    FOREIGN KEY (cpo_id, cdr_id) REFERENCES settlement_leaf
);
