-- A station that has once come by TLS, or by its certificate, can't come back with less (OCPP 2.0.1, A05).
ALTER TABLE station_credential
    ADD COLUMN security_profile BIGINT NOT NULL DEFAULT 1,
    ADD CONSTRAINT security_profile_is_one_of_ocpps CHECK (security_profile BETWEEN 1 AND 3);
