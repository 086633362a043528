-- A certificate that our own CA issued to a station opens its connection until it ends or is revoked, and no longer.
CREATE TABLE station_certificate (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    issued_at TIMESTAMPTZ NOT NULL,
    not_after TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, serial_number),
    CONSTRAINT it_ends_after_it_was_issued CHECK (not_after > issued_at)
);
CREATE INDEX station_certificate_by_station ON station_certificate (party_id, charging_station_id, issued_at);
CREATE INDEX station_certificate_revoked ON station_certificate (revoked_at) WHERE revoked_at IS NOT NULL;
