-- Who reads public data asks for what changed since: by when it came to us, since owners' clocks differ.

ALTER TABLE navigation_location ADD COLUMN received_at TIMESTAMPTZ NOT NULL DEFAULT now();

ALTER TABLE navigation_tariff ADD COLUMN received_at TIMESTAMPTZ NOT NULL DEFAULT now();
