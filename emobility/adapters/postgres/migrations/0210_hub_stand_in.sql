-- A page or a result reached through the hub is bridged and accounted for as the module it belongs to.

ALTER TABLE hub_proxied_resource ADD COLUMN module TEXT NOT NULL DEFAULT '';
