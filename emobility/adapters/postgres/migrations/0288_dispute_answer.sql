-- A pair may agree on a time by which a CPO answers disputes; the CPO sees until when.

ALTER TABLE cpo_dispute ADD COLUMN answer_by TIMESTAMPTZ;
