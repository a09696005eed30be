-- Does:    locks the schedule whose undecided tick is the oldest, of those that are due.
-- Takes:   task_paths: tasks known here; except_names: schedules to leave alone.
-- Returns: no row, or one: name, task_path, cron, timezone, arguments, missed, overlap, jitter,
--          next_tick_at, problem, the time now.
-- Locks:   the schedule's row for no key update, skip locked.
-- Index:   schedule_next.
select
    name, task_path, cron, timezone, arguments::text, missed, overlap, jitter, next_tick_at, problem,
    statement_timestamp()
from durable_schedule
where next_tick_at <= statement_timestamp() and paused_at is null and retired_at is null
    and task_path = any (%(task_paths)s::text[]) and name <> all (%(except_names)s::text[])
order by next_tick_at
limit 1
for no key update skip locked
