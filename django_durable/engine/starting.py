"""Children: jobs that a job starts and waits for.

A child's row carries its parent and the identity of the call that started it, unique together, so
a replay meets the same child. How it ended becomes a checkpoint of the parent under that identity.
The parent locks its own row before it reads an end that could still be undone by a retry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections, transaction

from django_durable.conf import get_settings
from django_durable.engine import inserting, instances, intake, outcomes, waiting
from django_durable.engine.atomic import LeaseLost, save_in_transaction
from django_durable.engine.bulk import CHUNK
from django_durable.engine.claims import hold_lease
from django_durable.engine.families import lock_jobs
from django_durable.engine.intake import Request
from django_durable.engine.replay import CHILD, FAILED, STARTED, SUCCESSFUL, Recorded
from django_durable.engine.rows import jobs as job_rows
from django_durable.engine.run import Run
from django_durable.engine.states import FINISHED, JobState, WaitKind
from django_durable.engine.threads import release_connections
from django_durable.engine.waiting import Point, WaitRule
from django_durable.engine.waits import has_come
from django_durable.exceptions import InvalidOptionError, PayloadTooLargeError

if TYPE_CHECKING:
    from django_durable.models import Job

# --- one child


def start(request: Request) -> tuple[str, Job | None]:
    """Start a child; its identity, and its row unless its end is recorded already.

    Raises: WaitError, EnqueueError, Suspension.
    """
    run = waiting.require_wait(".start()")
    refuse_key(request.task)
    new = intake.build(request)
    identity = run.scope.identify(f"start:{request.task.path}")
    recorded = run.history.records.get(identity)
    if recorded is not None and recorded.is_final:
        return identity, None
    child = replace(new, origin=identity, awaited_as=identity)
    return identity, inserting.insert_child(run, child)


def refuse_key(task: Any) -> None:
    if task.idempotency_key is not None:
        reason = "a child is started once for each call already; drop the key."
        raise InvalidOptionError(
            option="idempotency_key", value=task.idempotency_key, reason=reason
        )
    if task.unique is not None:
        reason = "no other job can stand for a child: start it of task.using(unique=None)."
        raise InvalidOptionError(option="unique", value=task.unique, reason=reason)


def await_child(task_path: str, identity: str) -> Recorded:
    """How a child ended. Raises: Suspension until it has."""
    return waiting.wait(
        WaitRule(
            call=".result()",
            name="start",
            identity=identity,
            checkpoint_kind=CHILD,
            kind=WaitKind.CHILDREN,
            reason=f"waits for a child, {task_path}",
            awaited_as=identity,
            look=_look_at_child,
        )
    )


def _look_at_child(point: Point) -> Recorded | None:
    child = find_child(point.run, point.identity)
    if child is not None and child.state not in FINISHED:
        return None
    if child is not None and child.state == JobState.SUCCESSFUL:
        return point.save(value=child.encoded_return_value)
    return _record(point, lambda connection: _end_of_child(point))


def _end_of_child(point: Point) -> tuple[str, str | None] | None:
    child = find_child(point.run, point.identity)
    if child is None:
        return FAILED, json.dumps({"type": "JobNotFoundError", "message": "its row is gone"})
    if child.state not in FINISHED:
        return None
    if child.state == JobState.SUCCESSFUL:
        return SUCCESSFUL, child.encoded_return_value
    return FAILED, json.dumps(describe_end(child))


def find_child(run: Run, identity: str) -> Job | None:
    rows = job_rows(run.alias).filter(parent_id=run.job.id, origin=identity)
    child = run.repeat(rows.first)
    release_connections()
    return child


def find_started(run: Run, identity: str) -> Job | None:
    """The row of a child that was started; in a fork, of its source's whose end is kept."""
    child = find_child(run, identity)
    source = run.history.enqueued_by_source.get(identity)
    if child is None and source is not None:
        child = run.repeat(job_rows(run.alias).filter(pk=source).first)
        release_connections()
    return child


def describe_end(child: Job) -> dict[str, Any]:
    """What the parent keeps of a child that did not succeed."""
    stored = json.loads(child.error or "{}")
    is_cancelled = child.state == JobState.CANCELLED
    return {
        "child": str(child.pk),
        "task_path": child.task_path,
        "state": child.state.lower(),
        "type": stored.get("type", "Cancelled" if is_cancelled else "?"),
        "message": stored.get("message", "it was cancelled" if is_cancelled else ""),
    }


def _record(
    point: Point,
    find_end: Callable[[Any], tuple[str, str | None] | None],
    *,
    lock: Callable[[Any], None] = lambda connection: None,
) -> Recorded | None:
    """Save an end that is read under the parent's lock: a retry of the child would lock it too."""

    def write(connection: Any) -> Recorded | None:
        lock(connection)
        if not hold_lease(connection, point.run.job.id, point.run.job.lease_token):
            raise LeaseLost
        end = find_end(connection)
        if end is None:
            return None
        state, text = end
        is_good = state == SUCCESSFUL
        checkpoint = point.checkpoint(
            state, value=text if is_good else None, error=None if is_good else text
        )
        save_in_transaction(connection, checkpoint)
        return checkpoint.as_recorded()

    record = waiting.in_transaction(point, write)
    if record is not None:
        point.run.settle(record, cancelled=False)
    return record


# --- many children


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRule:
    """How many items at once, and how many must succeed or may fail."""

    total: int
    max_concurrency: int | None
    min_successes: int | None
    max_failures: int | None

    def encode(self) -> str:
        return json.dumps({name: getattr(self, name) for name in MapRule.__slots__})

    def is_kept(self, successes: int, failures: int) -> bool:
        """Whether the map has succeeded, once it is over."""
        if self.max_failures is not None and failures > self.max_failures:
            return False
        return self.min_successes is None or successes >= self.min_successes


def run_map(requests: Sequence[Request], task_path: str, rule: MapRule) -> Recorded:
    """One child for each request; how they ended. Raises: Suspension until they have."""
    run = waiting.require_wait("map_task()")
    scope = run.scope
    scope.enter("map_task()")
    try:
        rows = intake.build_many(requests)
        found = waiting.find(run, _map_rule(task_path, rule, [row.arguments for row in rows]))
        if isinstance(found, Recorded):
            return found
        if found.earlier is None:
            run.save(_begun(found, rule), obeys_cancel=False)
        if rows and (found.earlier is None or found.earlier.wait_key is None):
            _spawn(found, rows, rule)
        return waiting.settle(_awaiting(found, rule))
    finally:
        scope.leave()


def _map_rule(task_path: str, rule: MapRule, arguments: Sequence[str]) -> WaitRule:
    digest = instances.digest("\n".join(arguments))[:32]
    return WaitRule(
        call="map_task()",
        name=f"map:{task_path}",
        checkpoint_kind="map",
        kind=WaitKind.CHILDREN,
        reason=f"waits for {rule.total} children, {task_path}",
        fingerprint=f"{rule.total} items sha256:{digest}",
    )


def _begun(point: Point, rule: MapRule) -> Any:
    return point.checkpoint(STARTED, value=rule.encode())


def _awaiting(point: Point, rule: MapRule) -> Point:
    point.rule = replace(
        point.rule, awaited_as=point.identity, look=lambda here: _look_at_map(here, rule)
    )
    return point


def _spawn(point: Point, rows: Sequence[Any], rule: MapRule) -> None:
    """Insert all children in one commit, those beyond the limit held back."""
    limit = rule.max_concurrency or rule.total
    children = [
        replace(
            row,
            origin=f"{point.identity}/{index}",
            awaited_as=point.identity,
            held_back=index >= limit,
        )
        for index, row in enumerate(rows)
    ]
    run = point.run
    run.repeat(lambda: _insert_all(run, children))
    release_connections()


def _insert_all(run: Run, children: Sequence[Any]) -> None:
    with transaction.atomic(using=run.alias):
        for start_at in range(0, len(children), CHUNK):
            inserting.insert_children(run, children[start_at : start_at + CHUNK])


def _look_at_map(point: Point, rule: MapRule) -> Recorded | None:
    """Record the end of a map, and cancel what it does not need any more, in one commit."""
    run = point.run
    if rule.total and not run.repeat(lambda: has_come(connections[run.alias], [point.wait])):
        release_connections()
        return None
    rest: list[UUID] = []

    def lock(connection: Any) -> None:
        live = job_rows(run.alias).live().filter(parent_id=run.job.id, awaited_as=point.identity)
        rest[:] = live.order_by("pk").values_list("pk", flat=True)
        lock_jobs(connection, [run.job.id, *rest])

    def end(connection: Any) -> tuple[str, str] | None:
        found = _end_of_map(connection, point, rule)
        if found is not None and rest:
            outcomes.cancel_jobs(run.alias, rest)
        return found

    return _record(point, end, lock=lock)


def _end_of_map(connection: Any, point: Point, rule: MapRule) -> tuple[str, str] | None:
    if rule.total and not has_come(connection, [point.wait]):
        return None
    rows = job_rows(point.run.alias).filter(parent_id=point.run.job.id, awaited_as=point.identity)
    good: dict[int, str] = {}
    bad: dict[int, dict[str, Any]] = {}
    for child in rows.only("id", "state", "origin", "encoded_return_value", "error", "task_path"):
        index = int((child.origin or "").rpartition("/")[2])
        if child.state == JobState.SUCCESSFUL:
            good[index] = child.encoded_return_value
        elif child.state in FINISHED:
            bad[index] = describe_end(child)
    if rule.is_kept(len(good), len(bad)):
        return SUCCESSFUL, _encode_map(good, bad, rule, point.identity)
    index = min(bad, default=0)
    worst = bad.get(index, {"type": "?", "message": ""})
    return FAILED, json.dumps({**worst, "failed": len(bad), "total": rule.total, "index": index})


def _encode_map(
    good: dict[int, str], bad: dict[int, dict[str, Any]], rule: MapRule, identity: str
) -> str:
    """The results inside the checkpoint: rows of children may be pruned, or retried, later."""
    values = ",".join(f'"{index}":{good[index]}' for index in sorted(good))
    failures = json.dumps({str(index): bad[index] for index in sorted(bad)})
    text = f'{{"total":{rule.total},"values":{{{values}}},"failures":{failures}}}'
    limit = LARGEST_MAP * get_settings().MAX_PAYLOAD_BYTES
    if len(text) > limit:
        raise PayloadTooLargeError(path=f"the results of {identity}", size=len(text), limit=limit)
    return text


LARGEST_MAP = 64
"""How many times MAX_PAYLOAD_BYTES the results of a map may take together."""
