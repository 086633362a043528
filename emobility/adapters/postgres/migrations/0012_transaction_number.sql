-- OCPP 1.6 leaves the transaction id to us: the same for the same StartTransaction, never given twice per station.
CREATE TABLE transaction_number (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    content_key TEXT NOT NULL,
    number BIGINT NOT NULL,
    remote_start_id BIGINT,
    PRIMARY KEY (party_id, charging_station_id, content_key),
    CONSTRAINT a_number_is_given_once_per_station UNIQUE (party_id, charging_station_id, number),
    CONSTRAINT number_is_positive CHECK (number > 0)
);
