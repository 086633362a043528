-- Each routed message leaves a row before its sender is answered, so that a party can show what it sent and to whom.

CREATE TABLE hub_message (
    message_id TEXT PRIMARY KEY,
    correlation_id TEXT NOT NULL,
    from_party TEXT NOT NULL,
    to_party TEXT NOT NULL,
    module TEXT NOT NULL,
    method TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    status_code BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL
);

CREATE INDEX hub_message_by_age ON hub_message (at);
