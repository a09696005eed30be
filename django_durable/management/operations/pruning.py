"""``durable prune``: delete what finished long enough ago, a chunk in each commit, to the end."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import Exists, OuterRef, Q, Value
from django.db.models.functions import Coalesce, Concat

from django_durable.conf import OF_QUEUES, get_settings
from django_durable.engine import retention
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.pruning import WORKER_RETENTION
from django_durable.engine.states import FINISHED, CheckpointState, JobState
from django_durable.engine.waits import event_key
from django_durable.management.operations.operation import (
    Operation,
    Options,
    positive,
    queue_name,
)
from django_durable.management.operations.output import Output, count_of, span
from django_durable.management.operations.reading import (
    ZERO,
    Bounded,
    all_jobs,
    count_rows,
    database_now,
    jobs_alias,
)
from django_durable.models import Checkpoint, Event, IdempotencyKey, Job, Worker

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_durable.models import JobQuerySet

DEFAULT_CHUNK = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of row that is pruned, by what rule, and how."""

    name: str
    noun: str
    rule: str
    old: QuerySet[Any] | None
    """The rows whose time is over. None: they are kept for ever."""
    spared: Q
    """Those of them that stay all the same."""
    prune: Callable[[Any, int], Iterator[int]]
    """Deletes chunk after chunk on a connection, to the end; how many in each."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows of a kind went, or would go, and how many old ones were spared."""

    pruned: Bounded
    spared: Bounded


def kinds(queue: str | None = None) -> Iterator[Kind]:
    """What there is to prune, as the settings say; of one queue only its jobs."""
    for state in FINISHED:
        if queue is None:
            yield from map(_kind_of_jobs, retention.rules_of(state.value))
        else:
            kept = get_settings().retention(state.value, queue)
            yield _kind_of_jobs(retention.Rule(state.value, kept, queue=queue))
    if queue is not None:
        return
    yield _kind_of_events(get_settings().retention("EVENT"))
    yield Kind(
        name="keys",
        noun="expired key",
        rule="A key of once() goes when it is expired; the key of a job goes with its job.",
        old=expired_keys(),
        spared=Q(pk__in=[]),
        prune=lambda connection, limit: _until_none(
            partial(retention.prune_keys, connection, limit=limit)
        ),
    )
    yield Kind(
        name="workers",
        noun="ended worker",
        rule=f"The row of a worker is kept {span(WORKER_RETENTION)} after its end.",
        old=ended_workers(),
        spared=Q(Exists(Job.objects.running().filter(worker_id=OuterRef("pk")))),
        prune=lambda connection, _: _until_none(
            partial(retention.prune_workers, connection, WORKER_RETENTION)
        ),
    )


def _until_none(prune: Callable[[], int]) -> Iterator[int]:
    return iter(prune, 0)


def _kind_of_jobs(rule: retention.Rule) -> Kind:
    length = "for ever" if rule.kept is None else span(rule.kept)
    of_queue, setting = "", f"DURABLE['RETENTION']['{rule.state}']"
    if rule.queue is not None:
        of_queue = f" of queue {rule.queue}"
        if rule.state in get_settings().queue_retention.get(rule.queue, {}):
            setting = f"DURABLE['RETENTION']['{OF_QUEUES}']['{rule.queue}']['{rule.state}']"
    return Kind(
        name=rule.state if rule.queue is None else f"{rule.queue}/{rule.state}",
        noun=f"{rule.state} job",
        rule=f"A {rule.state} job{of_queue} is kept {length}: {setting}.",
        old=None if rule.kept is None else old_jobs(rule, rule.kept),
        spared=spared_jobs(),
        prune=lambda connection, limit: _prune_jobs(rule, connection, limit),
    )


def _prune_jobs(rule: retention.Rule, connection: Any, limit: int) -> Iterator[int]:
    place, is_last = retention.BEGINNING, False
    while not is_last:
        chunk = retention.prune_jobs(connection, rule, after=place, limit=limit)
        place, is_last = chunk.end, chunk.is_last
        yield chunk.pruned


def _kind_of_events(kept: timedelta | None) -> Kind:
    length = "for ever" if kept is None else span(kept)
    waiting = Checkpoint.objects.filter(
        wait_key=Concat(Value(event_key("")), OuterRef("key")), state=CheckpointState.STARTED
    )
    return Kind(
        name="events",
        noun="broadcast event",
        rule=f"A broadcast event is kept {length}: DURABLE['RETENTION']['EVENT'].",
        old=None if kept is None else old_events(kept),
        spared=Q(Exists(waiting)),
        prune=lambda connection, limit: _until_none(
            lambda: 0 if kept is None else retention.prune_events(connection, kept, limit=limit)
        ),
    )


def old_events(kept: timedelta) -> QuerySet[Event]:
    events = Event.objects.using(jobs_alias())
    long_ago = StatementTimestamp() - kept
    is_old = Q(emitted_at__isnull=True) | Q(emitted_at__lt=long_ago)
    return events.filter(is_old, created_at__lt=long_ago)


def old_jobs(rule: retention.Rule, kept: timedelta) -> JobQuerySet:
    jobs = all_jobs().filter(state=rule.state, finished_at__lt=StatementTimestamp() - kept)
    if rule.queue is not None:
        return jobs.filter(queue_name=rule.queue)
    return jobs.exclude(queue_name__in=rule.other_queues)


def spared_jobs() -> Q:
    """Old jobs that stay: a key or period lives, a parent may look for them, or a child lives."""
    keys = IdempotencyKey.objects.filter(job_id=OuterRef("pk"), expires_at__gt=StatementTimestamp())
    parents = Job.objects.filter(pk=OuterRef("parent_id")).exclude(state=JobState.SUCCESSFUL)
    children = Job.objects.live().filter(parent_id=OuterRef("pk"))
    unique = Q(unique_key__isnull=False, unique_until__gt=StatementTimestamp())
    return Q(Exists(keys)) | unique | Q(Exists(parents)) | Q(Exists(children))


def expired_keys() -> QuerySet[IdempotencyKey]:
    """Keys of ``once`` whose time is over."""
    keys = IdempotencyKey.objects.using(jobs_alias())
    return keys.filter(job_id__isnull=True, expires_at__lt=StatementTimestamp())


def ended_workers() -> QuerySet[Worker]:
    workers = Worker.objects.using(jobs_alias()).annotate(end=Coalesce("stopped_at", "lost_at"))
    return workers.filter(end__lt=StatementTimestamp() - WORKER_RETENTION)


def run(output: Output, options: Options) -> None:
    answers: dict[str, Pruned] = {}
    for kind in kinds(options["queue"]):
        output.progress(kind.rule)
        answers[kind.name] = _prune_kind(output, kind, options)
    if output.as_json:
        now, dry_run = database_now(), options["dry_run"]
        output.document({"now": now, "dry_run": dry_run, "kinds": answers})


def _prune_kind(output: Output, kind: Kind, options: Options) -> Pruned:
    if kind.old is None:
        return Pruned(ZERO, ZERO)
    if options["dry_run"]:
        pruned = count_rows(kind.old.exclude(kind.spared))
        output.progress(f"  {count_of(pruned, kind.noun)} would be deleted.")
    else:
        pruned = _prune_to_the_end(output, kind, options["chunk"])
    spared = count_rows(kind.old.filter(kind.spared))
    if spared:
        output.progress(f"  {count_of(spared, kind.noun)} spared: a key or another job needs it.")
    return Pruned(pruned, spared)


def _prune_to_the_end(output: Output, kind: Kind, chunk: int) -> Bounded:
    """Delete chunk after chunk until none is left. Each is committed, so stopping loses nothing."""
    total = 0
    for gone in kind.prune(connections[jobs_alias()], chunk):
        total += gone
        if gone:
            output.progress(f"  {count_of(total, kind.noun)} deleted.")
    if not total:
        output.progress("  Nothing to delete.")
    return Bounded(total, is_exact=True)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be deleted, and delete nothing"
    )
    parser.add_argument("--queue", type=queue_name, metavar="NAME", help="only jobs of this queue")
    parser.add_argument(
        "--chunk",
        type=positive,
        default=DEFAULT_CHUNK,
        metavar="N",
        help=f"how many jobs to look at in one commit (default: {DEFAULT_CHUNK})",
    )


OPERATION = Operation(
    name="prune",
    help="delete what finished longer ago than DURABLE['RETENTION'] keeps it",
    add_arguments=add_arguments,
    run=run,
)
