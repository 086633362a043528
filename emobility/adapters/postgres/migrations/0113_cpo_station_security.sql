-- What is installed in a station, when it was asked to renew its own certificate, and how it rises to a higher profile.
CREATE TABLE cpo_installed_certificate (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    certificate_id TEXT NOT NULL,
    certificate_type TEXT NOT NULL,
    hash_data JSONB NOT NULL,
    above_id TEXT,
    subject TEXT,
    not_after TIMESTAMPTZ,
    certificate TEXT,
    seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, certificate_id)
);
CREATE INDEX cpo_installed_certificate_by_end ON cpo_installed_certificate (party_id, not_after);
CREATE TABLE cpo_certificate_renewal (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    answer TEXT,
    PRIMARY KEY (party_id, charging_station_id)
);
CREATE TABLE cpo_profile_upgrade (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    from_profile BIGINT NOT NULL,
    to_profile BIGINT NOT NULL,
    state TEXT NOT NULL,
    configuration_slot BIGINT,
    detail TEXT,
    asked_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id),
    CONSTRAINT a_profile_only_rises CHECK (to_profile > from_profile)
);
