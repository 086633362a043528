-- The newest version of each tariff by its key: what is published needs it, and versions grow in number for ever.

CREATE TABLE cpo_tariff (
    party_id TEXT NOT NULL,
    tariff_id TEXT NOT NULL,
    in_force_from TIMESTAMPTZ NOT NULL,
    tariff_hash TEXT NOT NULL,
    tariff JSONB NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (party_id, tariff_id)
);

INSERT INTO cpo_tariff (party_id, tariff_id, in_force_from, tariff_hash, tariff, last_updated)
SELECT DISTINCT ON (party_id, tariff_id) party_id, tariff_id, in_force_from, tariff_hash, tariff, last_updated
FROM cpo_tariff_version
ORDER BY party_id, tariff_id, in_force_from DESC;
