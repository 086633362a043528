-- One command for many stations, each called at most once, whatever dies in between.

CREATE TABLE cpo_bulk_job (
    party_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    action TEXT NOT NULL,
    payloads_subject TEXT NOT NULL,
    payloads_box BYTEA NOT NULL,
    request_hash TEXT NOT NULL,
    state TEXT NOT NULL,
    stations BIGINT NOT NULL,
    timeout_s BIGINT NOT NULL,
    at_once BIGINT NOT NULL,
    correlation_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    PRIMARY KEY (party_id, job_id),
    CONSTRAINT a_job_calls_somebody CHECK (stations > 0 AND at_once > 0)
);
CREATE INDEX cpo_bulk_job_running ON cpo_bulk_job (created_at) WHERE state = 'RUNNING';

CREATE TABLE cpo_bulk_call (
    party_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    charging_station_id TEXT NOT NULL,
    state TEXT NOT NULL,
    tries BIGINT NOT NULL,
    called_at TIMESTAMPTZ,
    answered_at TIMESTAMPTZ,
    result TEXT,
    detail TEXT,
    answer_subject TEXT,
    answer_box BYTEA,
    PRIMARY KEY (party_id, job_id, charging_station_id)
);
CREATE INDEX cpo_bulk_call_by_state ON cpo_bulk_call (party_id, job_id, state);
CREATE INDEX cpo_bulk_call_under_way ON cpo_bulk_call (called_at) WHERE state = 'CALLING';
