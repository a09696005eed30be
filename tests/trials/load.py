"""A thread that enqueues without a pause, and remembers what it was told."""

from __future__ import annotations

import threading

from django.db import DatabaseError, InterfaceError, connections
from pytest_django import DjangoDbBlocker

from django_durable import enqueue
from django_durable.models import Job
from tests.scenarios.harness import eventually
from tests.testapp import durable_stories as stories
from tests.testapp.models import Charge

STEPS = 5
MOST_LIVE = 100


class Load(threading.Thread):
    """``acknowledged``: refs whose enqueue returned; ``finished``: those seen SUCCESSFUL."""

    def __init__(self, blocker: DjangoDbBlocker) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, object] = {}
        self.finished: set[object] = set()
        self.interruptions = 0
        self._blocker = blocker
        self._over = threading.Event()

    def run(self) -> None:
        with self._blocker.unblock():
            number = 0
            while not self._over.is_set():
                try:
                    self._put(f"r{number}")
                    number += 1
                    if number % 10 == 0:
                        self._look()
                except (DatabaseError, InterfaceError):
                    self.interruptions += 1
                    connections["default"].close()
                    self._over.wait(0.1)
            connections["default"].close()

    def _put(self, ref: str) -> None:
        called = stories.steps_in_a_row.using(idempotency_key=ref)
        self.acknowledged[ref] = enqueue(called, ref, STEPS).pk

    def _look(self) -> None:
        """Note what has ended; wait while much is live, so that the end comes soon."""
        done = Job.objects.filter(state="SUCCESSFUL").values_list("pk", flat=True)
        self.finished.update(done)
        while len(self.acknowledged) - len(self.finished) > MOST_LIVE:
            if self._over.wait(0.1):
                break
            self.finished.update(done.all())

    def stop(self) -> None:
        self._over.set()
        self.join()


def fresh(question):  # type: ignore[no-untyped-def]  # asks anything
    """Ask again on a fresh connection if the old one died with its server."""
    try:
        return question()
    except (DatabaseError, InterfaceError):
        connections["default"].close()
        return None


def all_done(load: Load, patience: float = 90) -> None:
    """Stop the load; everything acknowledged succeeds, and each atomic effect is there once."""
    load.stop()
    connections["default"].close()  # it may have died with its server
    jobs = Job.objects.filter(pk__in=list(load.acknowledged.values()))
    wanted = len(load.acknowledged)
    assert jobs.count() == wanted, "an acknowledged job is lost"
    done = jobs.filter(state="SUCCESSFUL")
    eventually(lambda: done.count() == wanted, "all that was acknowledged is done", patience)
    assert load.finished <= set(Job.objects.filter(state="SUCCESSFUL").values_list("pk", flat=True))
    assert Job.objects.count() in (wanted, wanted + 1)  # one may be unacknowledged
    refs = list(Charge.objects.values_list("order_ref", flat=True))
    assert {refs.count(ref) for ref in set(refs)} == {STEPS}
