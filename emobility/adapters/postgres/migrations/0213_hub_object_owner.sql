-- Whose a location, token or session is, by keyed hashes: so a message without a receiver finds the one it is for.

CREATE TABLE hub_object_owner (
    object_hash TEXT NOT NULL,
    owner TEXT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (object_hash, owner)
);

CREATE INDEX hub_object_owner_by_age ON hub_object_owner (seen_at);
