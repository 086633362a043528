-- A refund that was asked for keeps its amount until it is answered, whatever else becomes due meanwhile.

ALTER TABLE cpo_ad_hoc_sale ADD COLUMN refunding_e4 BIGINT NOT NULL DEFAULT 0;
UPDATE cpo_ad_hoc_sale SET refunding_e4 = refund_e4 - refunded_e4 WHERE state = 'REFUNDING';
ALTER TABLE cpo_ad_hoc_sale ADD CONSTRAINT no_more_is_under_way_than_is_due
    CHECK (refunding_e4 >= 0 AND refunded_e4 + refunding_e4 <= refund_e4);
