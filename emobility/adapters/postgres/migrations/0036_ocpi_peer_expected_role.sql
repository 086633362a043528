-- An invitation is for one role too: a platform invited as an MSP can't register as a hub and speak for anyone.

ALTER TABLE ocpi_peer ADD COLUMN expected_role TEXT;
