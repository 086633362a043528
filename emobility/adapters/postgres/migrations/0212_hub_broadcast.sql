-- A broadcast is answered at once, so what is still to be sent, and what became of it at each receiver, is in rows.

CREATE TABLE hub_broadcast (
    broadcast_id TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    sender_party TEXT NOT NULL,
    sender_peer_id TEXT NOT NULL,
    module TEXT NOT NULL,
    method TEXT NOT NULL,
    object_hash TEXT NOT NULL,
    state_hash TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    message_subject TEXT NOT NULL,
    message_box BYTEA NOT NULL,
    entered_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX hub_broadcast_of_object ON hub_broadcast (sender_party, object_hash, position);
CREATE INDEX hub_broadcast_correlation ON hub_broadcast (correlation_id);
CREATE INDEX hub_broadcast_position ON hub_broadcast (position);
CREATE INDEX hub_broadcast_by_age ON hub_broadcast (entered_at);

CREATE TABLE hub_broadcast_receiver (
    broadcast_id TEXT NOT NULL,
    receiver TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status_code BIGINT,
    attempts BIGINT NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (broadcast_id, receiver)
);

CREATE INDEX hub_broadcast_receiver_waiting ON hub_broadcast_receiver (outcome) WHERE outcome = 'WAITING';
