-- Firmware reaches many stations batch after batch, and whoever dies between goes on where the rows stand.
CREATE TABLE cpo_firmware_campaign (
    party_id TEXT NOT NULL,
    campaign_id TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    firmware_subject TEXT NOT NULL,
    firmware_box BYTEA NOT NULL,
    firmware_version TEXT NOT NULL,
    selection JSONB NOT NULL,
    rules JSONB NOT NULL,
    time_limit_s BIGINT NOT NULL,
    failures_forgiven BIGINT NOT NULL,
    batch BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, campaign_id),
    CONSTRAINT time_limit_is_positive CHECK (time_limit_s > 0)
);
CREATE INDEX cpo_firmware_campaign_by_state ON cpo_firmware_campaign (state);
CREATE TABLE cpo_firmware_target (
    party_id TEXT NOT NULL,
    campaign_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    batch BIGINT NOT NULL,
    request_id BIGINT,
    detail TEXT,
    asked_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, campaign_id, charging_station_id)
);
