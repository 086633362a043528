-- Stations work on firmware and logs for hours and report by request id; what was asked and told is kept together.
CREATE TABLE cpo_station_task (
    party_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    request_id BIGINT NOT NULL,
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    subject TEXT NOT NULL,
    location TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    answer TEXT,
    file_name TEXT,
    status TEXT,
    status_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    reports JSONB NOT NULL,
    offered_at JSONB NOT NULL,
    campaign_id TEXT,
    PRIMARY KEY (party_id, charging_station_id, kind, request_id)
);
CREATE INDEX cpo_station_task_by_time ON cpo_station_task (party_id, charging_station_id, kind, asked_at);
