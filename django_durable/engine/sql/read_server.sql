-- Does:    reads what the server says of itself and of who is connected to it.
-- Takes:   nothing.
-- Returns: one row: is it a standby; its client sessions; the roles of the workers' sessions; this
--          session's role; the fullness of the notification queue, 0 to 1; the session of this
--          database with the oldest transaction (pid, begin) but this one.
-- Locks:   nothing.
-- Index:   pg_stat_activity.
select
    pg_is_in_recovery(),
    count(*) filter (where backend_type = 'client backend'),
    coalesce(
        array_agg(distinct usename::text) filter (where starts_with(application_name, 'durable:')), '{}'
    ),
    current_user::text,
    pg_notification_queue_usage(),
    (array_agg(pid order by xact_start) filter (
        where xact_start is not null and datname = current_database() and pid <> pg_backend_pid()
            and backend_type = 'client backend'
    ))[1],
    min(xact_start) filter (
        where datname = current_database() and pid <> pg_backend_pid()
            and backend_type = 'client backend'
    )
from pg_stat_activity
