-- A table is emptied by mistake as well as a row is removed from it, so the ledger refuses that, too.

DROP TRIGGER only_grows ON ledger_entry;

CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows();
