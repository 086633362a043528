-- A platform of OCPI 2.3.0 is told whenever another party can be reached; what it was told last is kept as a hash.

CREATE TABLE hub_announcement (
    peer_id TEXT PRIMARY KEY,
    roles_sha256 TEXT NOT NULL
);
