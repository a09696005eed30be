"""Parents and children: locked together, settled together when a child ends.

A parent waits for a child that has ``awaited_as``. Whatever ends, or reopens, such a child locks
both rows first, in one statement, so that two last children see each other, and the parent's
suspension sees them.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias
from uuid import UUID

from django_durable.conf import get_settings
from django_durable.engine.sql import Connection, execute, fetch_all, fetch_one, load

LOCK_JOBS = load("lock_jobs")
LOCK_FREE_JOBS = load("lock_free_jobs")
SETTLE_PARENTS = load("settle_parents")
FIND_UNJOINED_CHILDREN = load("find_unjoined_children")
FIND_CHILDREN_TO_CANCEL = load("find_children_to_cancel")
CLEAR_CANCELS_CHILDREN = load("clear_cancels_children")

Family: TypeAlias = tuple[UUID | None, str | None]
"""A job's ``parent_id`` and ``awaited_as``: whom it belongs to, if anybody waits for it."""
Locked: TypeAlias = tuple[UUID, str, str]
"""Of a locked job: id, task_path, state."""


def lock_jobs(
    connection: Connection, job_ids: Collection[UUID], *, waits: bool = True
) -> list[Locked]:
    """Lock jobs and the parents that wait for them, in a transaction; the jobs that are locked.

    Not ``waits``: what somebody else holds, or whose parent, is left out.
    """
    ids = set(job_ids)
    statement = LOCK_JOBS if waits else LOCK_FREE_JOBS
    rows: list[Locked] = fetch_all(connection, statement, {"ids": sorted(ids)})
    return [row for row in rows if row[0] in ids]


def settle_parents(connection: Connection, children: Iterable[Family]) -> None:
    """What children's ends mean to their siblings and parents. No statement if nobody waits.

    In the transaction that has locked the parents, after the ends are written.
    """
    families = {family for family in children if None not in family}
    if not families:
        return
    params = {
        "parent_ids": [parent_id for parent_id, _ in families],
        "awaited_ases": [awaited_as for _, awaited_as in families],
        **get_settings().notify_parameters,
    }
    fetch_one(connection, SETTLE_PARENTS, params)


def find_unjoined_children(connection: Connection, parent_ids: Sequence[UUID]) -> list[UUID]:
    """Ended children, but for successful ones, whose end these parents have not recorded."""
    rows = fetch_all(connection, FIND_UNJOINED_CHILDREN, {"parent_ids": parent_ids})
    return [row[0] for row in rows]


def find_children_to_cancel(connection: Connection, *, limit: int) -> list[UUID] | None:
    """Up to ``limit`` live children that their parents' end is to end; None: no parent says so."""
    rows = fetch_all(connection, FIND_CHILDREN_TO_CANCEL, {"limit": limit})
    return [row[0] for row in rows if row[0] is not None] if rows else None


def clear_cancels_children(connection: Connection, *, limit: int) -> int:
    """Forget up to ``limit`` ended parents whose children are cancelled by now; how many."""
    return execute(connection, CLEAR_CANCELS_CHILDREN, {"limit": limit})
