-- A dispute says where amounts come apart, and what would end it, so that one call of the CPO's operator does.

ALTER TABLE cpo_dispute ADD COLUMN differences JSONB NOT NULL DEFAULT '[]';
ALTER TABLE cpo_dispute ADD COLUMN proposal JSONB;
