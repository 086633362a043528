-- Disputes that nobody answered in time are found by that time: of many open ones, only the first were looked at.

-- Of a dispute raised before, or by the code before, the time is written down when it is first looked at.
ALTER TABLE emsp_dispute ADD COLUMN answer_by TIMESTAMPTZ DEFAULT '1970-01-01T00:00:00Z';
UPDATE emsp_dispute SET answer_by = NULL WHERE resolution IS NOT NULL;
CREATE INDEX emsp_dispute_unanswered ON emsp_dispute (party_id, answer_by) WHERE resolution IS NULL;
