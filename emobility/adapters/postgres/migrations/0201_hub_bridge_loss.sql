-- What a message lost between parties of different versions of OCPI can be asked for; hashes, never the values.

CREATE TABLE hub_bridge_loss (
    loss_id TEXT PRIMARY KEY,
    correlation_id TEXT NOT NULL,
    from_party TEXT NOT NULL,
    to_party TEXT NOT NULL,
    module TEXT NOT NULL,
    method TEXT NOT NULL,
    is_answer BOOLEAN NOT NULL,
    from_version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    concerns_money BOOLEAN NOT NULL,
    losses JSONB NOT NULL,
    at TIMESTAMPTZ NOT NULL
);

CREATE INDEX hub_bridge_loss_by_receiver ON hub_bridge_loss (to_party, at);
CREATE INDEX hub_bridge_loss_by_correlation ON hub_bridge_loss (correlation_id);
CREATE INDEX hub_bridge_loss_by_age ON hub_bridge_loss (at);
