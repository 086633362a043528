-- A gateway that dies can't say so: each run keeps a lease whose beat the others watch, and names itself in what it owns.
CREATE TABLE gateway_lease (
    gateway_run TEXT NOT NULL,
    gateway_url TEXT NOT NULL,
    beat BIGINT NOT NULL,
    is_gone BOOLEAN NOT NULL,
    PRIMARY KEY (gateway_run)
);

ALTER TABLE station_presence ADD COLUMN gateway_run TEXT NOT NULL DEFAULT '';
