-- The reference of a payment at a terminal leads to who paid, so that what was erased keeps none.

-- In a new database `erased_at` comes later (0362), and nothing was erased.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = 'cpo_ad_hoc_sale' AND column_name = 'erased_at'
    ) THEN
        UPDATE cpo_ad_hoc_sale SET authorization_reference = NULL WHERE erased_at IS NOT NULL;
    END IF;
END
$$;
