-- What stations told in the words of OCPP, sealed and whole, by station and time.

CREATE TABLE cpo_station_notice (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    notice_id TEXT NOT NULL,
    ocpp_version TEXT NOT NULL,
    action TEXT NOT NULL,
    payload_subject TEXT NOT NULL,
    payload_box BYTEA NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, charging_station_id, notice_id)
);
CREATE INDEX cpo_station_notice_by_time ON cpo_station_notice (party_id, charging_station_id, action, occurred_at);
