-- A transaction that discharges is of no batch either; only those that propose or fund one name it.

ALTER TABLE settlement_transaction DROP COLUMN batch_proposed;
ALTER TABLE settlement_transaction ADD COLUMN batch_proposed BYTEA
    GENERATED ALWAYS AS (CASE WHEN kind IN ('PROPOSE', 'FUND') THEN batch_id END) STORED REFERENCES settlement_batch;
