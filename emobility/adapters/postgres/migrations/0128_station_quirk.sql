-- What an operator tolerates of stations of a kind, and of what kind each station last said it is.

CREATE TABLE station_quirk (
    party_id TEXT NOT NULL,
    name TEXT NOT NULL,
    profile JSONB NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, name)
);

ALTER TABLE station_presence ADD COLUMN vendor TEXT;
ALTER TABLE station_presence ADD COLUMN model TEXT;
ALTER TABLE station_presence ADD COLUMN firmware_version TEXT;
