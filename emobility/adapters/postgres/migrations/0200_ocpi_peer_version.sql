-- A registration holds a version of OCPI, and what a platform does otherwise than the text is a setting of it.

ALTER TABLE ocpi_peer
    ADD COLUMN version TEXT NOT NULL DEFAULT '2.2.1',
    ADD COLUMN tolerances JSONB NOT NULL DEFAULT '{}',
    ALTER COLUMN accepts_plain_token SET DEFAULT FALSE;

UPDATE ocpi_peer SET tolerances = '{"accepts_plain_token": true}' WHERE accepts_plain_token;
