-- Does:    locks one schedule by its name.
-- Takes:   name.
-- Returns: no row, or one, as lock_due_schedule.
-- Locks:   the schedule's row for no key update; waits.
-- Index:   durable_schedule_pkey.
select
    name, task_path, cron, timezone, arguments::text, missed, overlap, jitter, next_tick_at, problem,
    statement_timestamp()
from durable_schedule
where name = %(name)s::text
for no key update
