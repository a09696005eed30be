"""What jobs have left behind, in a form in which two tellings of one story can be compared."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from django_durable.models import FINISHED, Checkpoint, Job, Message
from tests.testapp.models import BankCall, Charge


@dataclass(frozen=True, slots=True)
class End:
    """What a story left behind, without the names that differ between tellings."""

    facts: dict[str, object]
    """Of each job, checkpoint and message, and of each row that an atomic step wrote."""
    calls: dict[str, list[str]]
    """What the bank was called for -> the idempotency keys it saw, one for each call."""


def find_differences(end: End, peaceful: End, *, again: int) -> list[str]:
    """What is not as in peace, where each call of the bank is made once.

    ``again`` of them may have been made once more, under the same key.
    """
    names = sorted(end.facts.keys() | peaceful.facts.keys())
    found = [
        f"{name}: {end.facts.get(name)}, in peace {peaceful.facts.get(name)}"
        for name in names
        if end.facts.get(name) != peaceful.facts.get(name)
    ]
    too_many = 0
    for what in sorted(end.calls.keys() | peaceful.calls.keys()):
        keys, calm = end.calls.get(what, []), peaceful.calls.get(what, [])
        too_many += len(keys) - 1
        if len(calm) != 1 or len(set(keys)) != 1:
            found.append(f"the bank was called for {what} as {keys}, in peace {calm}")
    if too_many > again:
        found.append(f"the bank was called {too_many} times too often: {dict(end.calls)}")
    return found


def all_have_ended(jobs: Sequence[Job]) -> bool:
    """Whether these jobs have ended, and all that they enqueued."""
    live = Job.objects.exclude(state__in=FINISHED)
    if live.filter(pk__in=[job.pk for job in jobs]).exists():
        return False
    return all(job.state in FINISHED for job in tree_of(jobs).values())


def tree_of(jobs: Sequence[Job]) -> dict[str, Job]:
    """The jobs and their descendants as they are now, by the path that leads to each."""
    rows = {row.pk: row for row in Job.objects.filter(pk__in=[job.pk for job in jobs])}
    found = {f"job {number}": rows[job.pk] for number, job in enumerate(jobs)}
    parents = {job.pk: path for path, job in found.items()}
    while children := list(Job.objects.filter(parent_id__in=parents)):
        below = {f"{parents[child.parent_id]} > {child.origin}": child for child in children}
        found |= below
        parents = {job.pk: path for path, job in below.items()}
    return found


def end_of(jobs: Sequence[Job], ref: str) -> End:
    """The end of some jobs and their descendants; what they wrote carries ``ref``."""
    tree = tree_of(jobs)
    paths = {str(job.pk): path for path, job in tree.items()}
    names = re.compile("|".join([*paths, rf"\b{ref}\b"]))

    def shown(text: str | None) -> str | None:
        return text and names.sub(lambda match: f"<{paths.get(match[0], 'ref')}>", text)

    def error_of(row: Any) -> str | None:
        error = json.loads(row.error or "null")
        return error and shown(f"{error['type']}: {error.get('detail', error['message'])}")

    facts: dict[str, Any] = {}
    for path, job in tree.items():
        value = shown(job.encoded_return_value)
        facts[path] = (job.task_path, job.state, job.attempt, value, error_of(job))
    # what the losers of first() were waiting for, if they had begun to
    of_losers = Q(state="STARTED", identity__regex=r"(^|/)first(#\d+)?/")
    for row in Checkpoint.objects.filter(job_id__in=paths).exclude(of_losers):
        name = f"{paths[str(row.job_id)]}: {shown(row.identity)}"
        facts[name] = (row.kind, row.state, _without_times(shown(row.value)), error_of(row))
    for message in Message.objects.filter(job_id__in=paths).order_by("name", "id"):
        name = f"{paths[str(message.job_id)]} was sent {message.name}"
        facts[name] = (*facts.get(name, ()), message.payload)
    charges = Charge.objects.filter(order_ref__startswith=f"{ref}:")
    rows = Counter(charge.order_ref.partition(":")[2] for charge in charges)
    facts |= {f"rows of {what}": number for what, number in rows.items()}
    calls = defaultdict(list)
    for call in BankCall.objects.filter(ref=ref):
        calls[call.what].append(call.key)
    return End(facts, calls)


def _without_times(value: str | None) -> str | None:
    return value and re.sub(r'"sent_at" ?: ?"[^"]*"', '"sent_at": "then"', value)
