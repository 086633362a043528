-- While a station's password is changed, the old one and the new one open its connection: nobody knows which it has.
ALTER TABLE station_credential
    ADD COLUMN next_password_hashes JSONB NOT NULL DEFAULT '[]',
    ADD COLUMN rotation_asked_at TIMESTAMPTZ,
    ADD COLUMN old_password_until TIMESTAMPTZ;
