-- Does:    records the result of once(), in the transaction that took the key.
-- Takes:   id, value.
-- Returns: nothing.
-- Locks:   the key's row, held already.
-- Index:   durable_idempotencykey_pkey.
update durable_idempotencykey set value = %(value)s::json where id = %(id)s::bigint
