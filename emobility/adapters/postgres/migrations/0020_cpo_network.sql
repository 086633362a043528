-- What a CPO runs and sells: locations, stations, EVSEs, tariffs in all their versions, agreements, who is told.

CREATE TABLE cpo_party (
    party_id TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (party_id)
);

CREATE TABLE cpo_location (
    party_id TEXT NOT NULL,
    location_id TEXT NOT NULL,
    location JSONB NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, location_id)
);

CREATE TABLE cpo_station (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    location_id TEXT NOT NULL,
    station JSONB NOT NULL,
    tariff_ids JSONB NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id)
);

CREATE TABLE cpo_evse (
    party_id TEXT NOT NULL,
    evse_uid TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    location_id TEXT NOT NULL,
    ocpp_evse_id BIGINT NOT NULL,
    status TEXT NOT NULL,
    changed_at TIMESTAMPTZ,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, evse_uid),
    UNIQUE (party_id, charging_station_id, ocpp_evse_id)
);

CREATE INDEX cpo_evse_of_location ON cpo_evse (party_id, location_id);

-- A version is never changed: sessions are priced by the one they started under.
CREATE TABLE cpo_tariff_version (
    party_id TEXT NOT NULL,
    tariff_id TEXT NOT NULL,
    in_force_from TIMESTAMPTZ NOT NULL,
    tariff_hash TEXT NOT NULL,
    tariff JSONB NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, tariff_id, in_force_from)
);

CREATE TABLE cpo_market (
    party_id TEXT NOT NULL,
    tariff_id TEXT NOT NULL,
    terms JSONB NOT NULL,
    prices JSONB NOT NULL,
    PRIMARY KEY (party_id, tariff_id)
);

CREATE TABLE cpo_agreement (
    party_id TEXT NOT NULL,
    agreement_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    emsp_id TEXT NOT NULL,
    state TEXT NOT NULL,
    emsp_public_key TEXT NOT NULL,
    agreement JSONB NOT NULL,
    PRIMARY KEY (party_id, agreement_id, version)
);

CREATE INDEX cpo_agreement_of_emsp ON cpo_agreement (party_id, emsp_id);

CREATE TABLE cpo_subscriber (
    party_id TEXT NOT NULL,
    subscriber_id TEXT NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (party_id, subscriber_id)
);
