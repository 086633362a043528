-- The hub can prove what became of each message: receipts, bound by signed batches, bound by days that are anchored.

CREATE TABLE hub_delivery_receipt (
    receipt_id TEXT PRIMARY KEY,
    hub TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    from_party TEXT NOT NULL,
    to_party TEXT NOT NULL,
    module TEXT NOT NULL,
    method TEXT NOT NULL,
    sent_sha256 BYTEA NOT NULL,
    forwarded_sha256 BYTEA NOT NULL,
    request_signature BYTEA,
    http_status BIGINT,
    ocpi_status BIGINT NOT NULL,
    response_sha256 BYTEA,
    at TIMESTAMPTZ NOT NULL,
    countersigner TEXT,
    countersigned_base TEXT,
    countersignature BYTEA,
    batch_number BIGINT,
    place BIGINT,
    CONSTRAINT in_a_batch_at_a_place CHECK ((batch_number IS NULL) = (place IS NULL))
);

CREATE INDEX hub_delivery_receipt_by_message ON hub_delivery_receipt (correlation_id);
CREATE INDEX hub_delivery_receipt_by_batch ON hub_delivery_receipt (batch_number, place);
CREATE INDEX hub_delivery_receipt_unsigned ON hub_delivery_receipt (at) WHERE batch_number IS NULL;

CREATE TABLE hub_receipt_batch (
    hub TEXT NOT NULL,
    number BIGINT NOT NULL,
    previous BYTEA NOT NULL,
    root BYTEA NOT NULL,
    count BIGINT NOT NULL,
    closed_at TIMESTAMPTZ NOT NULL,
    key_id TEXT NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (hub, number)
);

CREATE INDEX hub_receipt_batch_by_age ON hub_receipt_batch (closed_at);

-- Who holds its row's lock is the only one who closes batches and days.
CREATE TABLE hub_receipt_ledger (
    hub TEXT PRIMARY KEY,
    last_number BIGINT NOT NULL,
    last_hash BYTEA NOT NULL,
    days_closed_until TIMESTAMPTZ NOT NULL
);

CREATE TABLE hub_receipt_day (
    hub TEXT NOT NULL,
    starts_at TIMESTAMPTZ NOT NULL,
    first_number BIGINT NOT NULL,
    last_number BIGINT NOT NULL,
    root BYTEA NOT NULL,
    chain_id BIGINT,
    contract BYTEA,
    transaction BYTEA,
    anchored_at TIMESTAMPTZ,
    PRIMARY KEY (hub, starts_at)
);
