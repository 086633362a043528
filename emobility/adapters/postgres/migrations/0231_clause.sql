-- Every verdict on a CDR cites the clause it rests on.

ALTER TABLE emsp_cdr ADD COLUMN clause TEXT;
ALTER TABLE cpo_dispute ADD COLUMN clause TEXT;
