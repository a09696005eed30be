-- Does:    takes turns on one question. The wait's event row is locked before.
-- Takes:   id.
-- Returns: one row, or none: it was pruned.
-- Locks:   the question's row for no key update, to commit.
-- Index:   durable_approval_pkey.
select id from durable_approval where id = %(id)s::bigint for no key update
