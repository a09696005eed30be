-- Does:    reads what the server says of itself and of who is connected to it.
-- Takes:   nothing.
-- Returns: one row: is it a standby; its client sessions; the roles of the workers' sessions; this
--          session's role; the fullness of the notification queue, 0 to 1; pid and begin of the
--          oldest transaction of this database but this one.
-- Locks:   nothing.
-- Index:   pg_stat_activity.
with
session as materialized (
    select * from pg_stat_activity where backend_type = 'client backend'
),
oldest as (
    select pid, xact_start from session
    where xact_start is not null and datname = current_database() and pid <> pg_backend_pid()
    order by xact_start
    limit 1
)
select
    pg_is_in_recovery(),
    (select count(*) from session),
    array(
        select distinct usename::text from session where starts_with(application_name, 'durable:')
    ),
    current_user::text,
    pg_notification_queue_usage(),
    (select pid from oldest),
    (select xact_start from oldest)
