-- What our parties owe a counterparty is a row, entered with the state change, so a crash forgets no CDR.

CREATE TABLE ocpi_delivery (
    own_party TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    to_party TEXT NOT NULL,
    object_key TEXT NOT NULL,
    position BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    is_replaceable BOOLEAN NOT NULL,
    is_routed BOOLEAN NOT NULL,
    method TEXT NOT NULL,
    module TEXT NOT NULL,
    interface_role TEXT NOT NULL,
    message_subject TEXT NOT NULL,
    message_box BYTEA NOT NULL,
    correlation_id TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    reason TEXT,
    entered_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (own_party, delivery_id)
);

CREATE INDEX ocpi_delivery_of_counterparty ON ocpi_delivery (own_party, to_party, state, position);
CREATE INDEX ocpi_delivery_of_object ON ocpi_delivery (own_party, to_party, object_key);
CREATE INDEX ocpi_delivery_position ON ocpi_delivery (position);
