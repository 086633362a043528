-- The reference of a payment at a terminal leads to who paid, so that what was erased keeps none.

UPDATE cpo_ad_hoc_sale SET authorization_reference = NULL WHERE erased_at IS NOT NULL;
