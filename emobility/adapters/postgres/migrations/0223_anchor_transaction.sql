-- A transaction that anchors a root is of no batch; its batch_id names the root, which no batch has.

ALTER TABLE settlement_transaction DROP CONSTRAINT settlement_transaction_batch_id_fkey;
ALTER TABLE settlement_transaction ADD COLUMN batch_proposed BYTEA
    GENERATED ALWAYS AS (CASE WHEN kind = 'ANCHOR' THEN NULL ELSE batch_id END) STORED REFERENCES settlement_batch;
