-- A charge that nothing is heard of ends by our clock, not by the CPO's; of what came before this it was heard now.
ALTER TABLE emsp_session ADD COLUMN heard_at TIMESTAMPTZ NOT NULL DEFAULT now();
