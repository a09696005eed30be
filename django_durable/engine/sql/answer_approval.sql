-- Does:    writes the answer to a question that is locked and was found open.
-- Takes:   id; approved; answer: an encoded value; answered_by_key, answered_by_name.
-- Returns: nothing.
-- Locks:   the question's row, which is locked already.
-- Index:   durable_approval_pkey.
update durable_approval set
    approved = %(approved)s::boolean,
    answer = %(answer)s::json,
    answered_by_key = %(answered_by_key)s::text,
    answered_by_name = %(answered_by_name)s::text,
    answered_at = statement_timestamp(),
    closed_at = statement_timestamp()
where id = %(id)s::bigint and approved is null
