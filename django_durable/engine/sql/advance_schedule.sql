-- Does:    moves a schedule on to its next tick.
-- Takes:   name; last_tick_at: null leaves it as it is; next_tick_at: null: none comes.
-- Returns: nothing.
-- Locks:   the schedule's row, which is locked already.
-- Index:   durable_schedule_pkey.
update durable_schedule
set last_tick_at = greatest(last_tick_at, %(last_tick_at)s::timestamptz),
    next_tick_at = %(next_tick_at)s::timestamptz,
    problem = ''
where name = %(name)s::text
