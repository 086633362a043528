-- The message log says which departures from the standard were tolerated in a message.

ALTER TABLE station_message ADD COLUMN tolerated TEXT;
