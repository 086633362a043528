-- An erasure says which documents are kept by which law until when, not only that some are.

ALTER TABLE emsp_erasure ADD COLUMN kept JSONB NOT NULL DEFAULT '[]';
