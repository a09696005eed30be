-- Does:    lets workers look for work, at commit.
-- Takes:   queue_name: the queue to look into; empty: all.
-- Returns: one row with the notification's void.
-- Locks:   nothing.
-- Index:   none.
select pg_notify('durable', %(queue_name)s::text)
