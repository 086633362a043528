-- Stations that are under way are looked for every few seconds, also of campaigns that no longer run.
CREATE INDEX cpo_firmware_target_under_way ON cpo_firmware_target (party_id, campaign_id) WHERE state = 'UNDER_WAY';
