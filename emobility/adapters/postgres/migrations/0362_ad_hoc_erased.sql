-- What leads to an ad hoc driver goes when no law asks for it any more; the sale stays as a line of the books.

ALTER TABLE cpo_ad_hoc_sale ADD COLUMN erased_at TIMESTAMPTZ;
CREATE INDEX cpo_ad_hoc_sale_not_erased ON cpo_ad_hoc_sale (made_at) WHERE erased_at IS NULL;
