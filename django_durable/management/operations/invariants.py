"""The doctor's look at the rows: what has to hold of jobs, workers and keys, or needs a look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.models import CheckConstraint, F, Func, Q, TextField, Value

from django_durable.engine import registry
from django_durable.engine.boot import code_version
from django_durable.engine.claims import find_ready_queues
from django_durable.engine.retention import rules_of
from django_durable.engine.sql import fetch_all, load
from django_durable.engine.states import FINISHED, JobState
from django_durable.exceptions import PoisonJobError
from django_durable.management.operations.finding import FAIL, WARN, Finding
from django_durable.management.operations.obstacles import OVERDUE, START_WORKER
from django_durable.management.operations.output import age, count_of
from django_durable.management.operations.pruning import expired_keys, old_jobs, spared_jobs
from django_durable.management.operations.reading import (
    LOST,
    SILENT,
    all_jobs,
    count_rows,
    database_now,
    jobs_alias,
    read_workers,
    running_by_worker,
)
from django_durable.management.operations.status import read_status
from django_durable.models import Schedule

READ_INVARIANTS = load("read_invariants")
HEAD = 1000
"""So many jobs at the head of each queue are asked whether somebody knows their task."""
PRUNING_LAG = timedelta(hours=1)
LATELY = timedelta(days=1)
MOST_NAMED = 5


def constraints_hold() -> Iterator[Finding]:
    """Each constraint and index of the models stands, and holds for every row."""
    models = list(apps.get_app_config("durable").get_models())
    params = {"tables": [model._meta.db_table for model in models]}
    standing = dict(fetch_all(connections[jobs_alias()], READ_INVARIANTS, params))
    found: list[Finding] = []
    for model in models:
        for rule in [*model._meta.constraints, *model._meta.indexes]:
            if not standing.get(rule.name):
                found.append(_broken(model, rule, is_there=rule.name in standing))
    says = f"All {len(standing)} constraints and indexes stand, so finished jobs have finished_at."
    yield from found or [Finding(code="constraints", says=says)]


def _broken(model: Any, rule: Any, *, is_there: bool) -> Finding:
    what = "is there but not valid" if is_there else "is missing"
    says = f"{type(rule).__name__} {rule.name} of {model._meta.db_table} {what}."
    if isinstance(rule, CheckConstraint):
        rows = model._base_manager.using(jobs_alias()).exclude(Q(rule.condition))
        says += f" {count_of(count_rows(rows), 'row')} break it."
    cure = f"mend such rows, then make it anew: manage.py sqlmigrate durable 0001 has {rule.name}."
    return Finding(code="constraints", level=FAIL, says=says, cure=cure)


def running_jobs_have_workers() -> Iterator[Finding]:
    workers = {worker.id for worker in read_workers(database_now()) if worker.is_alive}
    held = running_by_worker()
    stranded = sum(jobs for worker_id, jobs in held.items() if worker_id not in workers)
    if not stranded:
        says = f"{count_of(sum(held.values()), 'running job')}, each held by a live worker."
        yield Finding(code="running", says=says)
        return
    says = f"{count_of(stranded, 'running job')} held by a worker that is lost, silent or gone"
    if workers:
        says = f"{says}; a live worker makes them READY within a lease."
        cure = "ask again in half a minute; if they stay, a worker's log says why."
        yield Finding(code="running", level=WARN, says=says, cure=cure)
    else:
        says = f"{says}, and none is alive to make them READY again."
        yield Finding(code="running", level=FAIL, says=says, cure=START_WORKER)


def due_jobs_are_promoted() -> Iterator[Finding]:
    late = all_jobs().delayed().filter(due_at__lt=database_now() - OVERDUE)
    if count := count_rows(late):
        says = f"{count_of(count, 'job')} became due over a minute ago: no worker promotes them."
        cure = f"{START_WORKER}; if one runs, its log says what keeps it."
        yield Finding(code="overdue", level=FAIL, says=says, cure=cure)
    else:
        yield Finding(code="overdue", says="No job is overdue.")


def schedules_are_fired() -> Iterator[Finding]:
    now = database_now()
    active = Schedule.objects.using(jobs_alias()).filter(paused_at=None, retired_at=None)
    late = active.filter(next_tick_at__lt=now - OVERDUE).order_by("next_tick_at", "name")
    if not (count := count_rows(late)):
        says = f"{count_of(count_rows(active), 'schedule')}, none behind its time."
        yield Finding(code="schedules", says=says)
        return
    told = [
        f"{row.name}, due {age(row.next_tick_at, now)} ({row.problem or row.task_path})"
        for row in late[:MOST_NAMED]
    ]
    says = f"{count_of(count, 'schedule')} whose tick nobody has decided on: {'; '.join(told)}."
    cure = "start a worker that has its task; durable schedules NAME says what keeps it."
    yield Finding(code="schedules", level=FAIL, says=says, cure=cure)


def queues_are_served() -> Iterator[Finding]:
    """Ready jobs have a worker; blocked and suspect ones are told of."""
    status = read_status()
    stranded = [
        f"{queue.queue_name} ({count_of(queue.jobs[JobState.READY], 'ready job')}, the oldest due "
        f"{age(queue.oldest_ready_due_at, status.now)})"
        for queue in status.queues
        if queue.is_stranded
    ]
    if stranded:
        says = f"No live worker claims from {', '.join(stranded)}."
        cure = "manage.py durable_worker serves all queues, --queue NAME one."
        yield Finding(code="unserved-queue", level=FAIL, says=says, cure=cure)
    else:
        yield Finding(code="unserved-queue", says="Each queue with ready jobs has a live worker.")
    if status.blocked:
        yield Finding(
            code="blocked",
            level=WARN,
            says=f"{count_of(status.blocked, 'job')} blocked: code and checkpoints differ.",
            cure="manage.py durable list --state WAITING, then durable explain JOB.",
        )
    if status.suspects:
        yield Finding(
            code="suspects",
            level=WARN,
            says=f"{count_of(status.suspects, 'job')} lost a worker twice or more.",
            cure="look into the logs of the workers lost: out of memory? Then mend the task.",
        )


def tasks_are_known() -> Iterator[Finding]:
    """Looks at the head of each queue, where jobs that nobody claims pile up."""
    known = set(registry.known_paths())
    paths: set[str] = set()
    for queue in find_ready_queues(connections[jobs_alias()]):
        ready = all_jobs().ready().filter(queue_name=queue)
        head = ready.filter(limit_name__isnull=True).order_by("-priority", "due_at", "id")
        limited = ready.filter(limit_name__isnull=False).order_by()
        for jobs in (head, limited):
            paths |= set(jobs.values_list("task_path", flat=True)[:HEAD])
    unknown = sorted(paths - known)
    if not unknown:
        yield Finding(code="tasks", says="The tasks of the ready jobs are known in this process.")
        return
    says = f"Ready jobs name tasks that this process does not know: {', '.join(unknown)}."
    cure = 'deploy their code, or give a moved task its old path: @task(aliases=("old.path",)).'
    others = {w.code_version for w in read_workers(database_now()) if w.is_alive} - {code_version()}
    if others:
        says = f"{says} Workers of other code ({', '.join(sorted(others))}) may know them."
    yield Finding(code="tasks", level=WARN if others else FAIL, says=says, cure=cure)


def workers_stay_alive() -> Iterator[Finding]:
    now = database_now()
    workers = read_workers(now)
    lost = [w for w in workers if w.state == LOST]
    silent = [w for w in workers if w.state == SILENT]
    if lost:
        names = ", ".join(f"{w} {age(w.lost_at, now)}" for w in lost[:5])
        says = f"{count_of(len(lost), 'worker')} lost within a day, lately: {names}."
        cure = "look into their logs and the kernel's: killed, out of memory, frozen, cut off?"
        yield Finding(code="lost-workers", level=WARN, says=says, cure=cure)
    if silent:
        names = ", ".join(f"{w}, {w.silence(now)}" for w in silent)
        says = f"Looking dead, and not declared lost yet: {names}."
        cure = "a live worker declares it lost within a second; see that one runs."
        yield Finding(code="silent-workers", level=WARN, says=says, cure=cure)
    if not (lost or silent):
        yield Finding(code="workers", says="No worker was lost within a day.")


def poison_is_rare() -> Iterator[Finding]:
    kind = Func(
        F("error"), Value("type"), function="json_extract_path_text", output_field=TextField()
    )
    lately = all_jobs().filter(state=JobState.FAILED, finished_at__gt=database_now() - LATELY)
    path = f"{PoisonJobError.__module__}.{PoisonJobError.__qualname__}"
    if count := count_rows(lately.annotate(kind=kind).filter(kind=path)):
        says = f"{count_of(count, 'job')} FAILED as poison within a day: they ended their workers."
        cure = "manage.py durable list --state FAILED; mend the task, then retry them."
        yield Finding(code="poison", level=WARN, says=says, cure=cure)


def old_rows_are_pruned() -> Iterator[Finding]:
    """Workers prune every minute; what is long over and still there says that they do not."""
    overdue: list[str] = []
    for rule in (rule for state in FINISHED for rule in rules_of(state.value)):
        if rule.kept is not None:
            old = old_jobs(rule, rule.kept + PRUNING_LAG).exclude(spared_jobs())
            where = f" of queue {rule.queue}" if rule.queue else ""
            overdue += [f"{count} {rule.state}{where}"] if (count := count_rows(old)) else []
    expired = count_rows(expired_keys())
    says = f"{count_of(expired, 'expired key')} of once() to prune."
    if overdue:
        says = f"Jobs are kept longer than DURABLE['RETENTION'] says: {', '.join(overdue)}. {says}"
        yield Finding(code="retention", level=WARN, says=says, cure="manage.py durable prune")
    else:
        yield Finding(code="retention", says=f"No job is kept longer than it should be. {says}")


EXAMINATIONS: Sequence[Callable[[], Iterator[Finding]]] = (
    constraints_hold,
    running_jobs_have_workers,
    due_jobs_are_promoted,
    schedules_are_fired,
    queues_are_served,
    tasks_are_known,
    workers_stay_alive,
    poison_is_rare,
    old_rows_are_pruned,
)
