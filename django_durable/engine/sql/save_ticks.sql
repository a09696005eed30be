-- Does:    notes what was made of ticks; one that was noted before and enqueued nothing is noted anew.
-- Takes:   schedule_name; arrays with an element for each tick: ticks_at, outcomes, reasons, job_ids;
--          again: whether also those that enqueued something are noted anew.
-- Returns: nothing; the count says how many.
-- Locks:   the ticks noted before; the schedule's row is locked already.
-- Index:   tick_once.
insert into durable_tick (schedule_name, tick_at, outcome, reason, job_id, decided_at)
select %(schedule_name)s::text, tick.at, tick.outcome, tick.reason, tick.job_id, statement_timestamp()
from unnest(
    %(ticks_at)s::timestamptz[], %(outcomes)s::text[], %(reasons)s::text[], %(job_ids)s::uuid[]
) as tick (at, outcome, reason, job_id)
on conflict (schedule_name, tick_at) do update set
    outcome = excluded.outcome, reason = excluded.reason, job_id = excluded.job_id,
    decided_at = excluded.decided_at
    where durable_tick.job_id is null or %(again)s::boolean
