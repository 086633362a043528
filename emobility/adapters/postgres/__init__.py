"""psycopg: the event log, rows, inbox, keys and migrations on PostgreSQL."""
