-- A station's clock may be wrong, so when we heard of a transaction's end is kept: it can't have ended later.

ALTER TABLE cpo_transaction ADD COLUMN end_arrived_at TIMESTAMPTZ;
