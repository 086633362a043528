-- A party's token opens no more than its purpose needs: those that were issued before open everything, as they did.

ALTER TABLE party_api_token ADD COLUMN role TEXT NOT NULL DEFAULT 'OWNER';
