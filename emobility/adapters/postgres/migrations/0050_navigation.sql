-- A navigation provider keeps locations and ad hoc tariffs as their owners published them, to search and to show.

CREATE TABLE navigation_location (
    nsp_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    location_id TEXT NOT NULL,
    document TEXT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (nsp_id, cpo_id, location_id)
);

CREATE TABLE navigation_tariff (
    nsp_id TEXT NOT NULL,
    cpo_id TEXT NOT NULL,
    tariff_id TEXT NOT NULL,
    document TEXT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (nsp_id, cpo_id, tariff_id)
);
