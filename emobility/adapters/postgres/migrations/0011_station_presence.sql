-- One gateway owns a station's connection; the fence tells a later owner from an earlier one.
CREATE TABLE station_presence (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    fence BIGINT NOT NULL,
    is_online BOOLEAN NOT NULL,
    gateway_url TEXT NOT NULL,
    ocpp_version TEXT NOT NULL,
    connected_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id),
    CONSTRAINT fence_counts_from_one CHECK (fence > 0)
);
