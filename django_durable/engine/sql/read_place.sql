-- Does:    reads where a session has come to, to compare it with where another has.
-- Takes:   nothing.
-- Returns: one row: the database's name; when its server started; which table is durable_job there,
--          null if none; the session's role.
-- Locks:   nothing.
-- Index:   none needed.
select
    current_database()::text, pg_postmaster_start_time(),
    to_regclass('durable_job')::oid::bigint, current_user::text
