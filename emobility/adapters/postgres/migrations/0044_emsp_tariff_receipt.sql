-- When a tariff version was received bounds when it can have been in force; of older rows only the CPO's word is known.
ALTER TABLE emsp_tariff_version ADD COLUMN received_at TIMESTAMPTZ;
UPDATE emsp_tariff_version SET received_at = in_force_from;
ALTER TABLE emsp_tariff_version ALTER COLUMN received_at SET NOT NULL;
