-- Does:    makes a schedule, unless there is one of its name.
-- Takes:   its columns; declared and declared_by: null for one that an operator makes.
-- Returns: its name, or no row: the name is taken.
-- Locks:   waits for an uncommitted row of the same name.
-- Index:   durable_schedule_pkey.
insert into durable_schedule (
    name, task_path, cron, timezone, arguments, missed, overlap, jitter, next_tick_at, problem,
    declared, declared_by, created_at
)
values (
    %(name)s::text, %(task_path)s::text, %(cron)s::text, %(timezone)s::text, %(arguments)s::json,
    %(missed)s::text, %(overlap)s::text, %(jitter)s::interval, %(next_tick_at)s::timestamptz, '',
    %(declared)s::json, %(declared_by)s::text, statement_timestamp()
)
on conflict (name) do nothing
returning name
