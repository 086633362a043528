-- A station proves who it is by a password of which only a keyed hash is kept.
CREATE TABLE station_credential (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    password_hash BYTEA NOT NULL,
    ocpp_version TEXT,
    known_address_hash BYTEA,
    PRIMARY KEY (party_id, charging_station_id)
);
