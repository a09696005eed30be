-- Does:    ends every session of a lost worker, so that no transaction of the dead holds rows.
-- Takes:   session_name: durable:<worker id>.
-- Returns: a row for each session, true if it ended within a second.
-- Locks:   nothing.
-- Index:   pg_stat_activity.
select pg_terminate_backend(pid, 1000) from pg_stat_activity
where application_name = %(session_name)s::text and pid <> pg_backend_pid()
