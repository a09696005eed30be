"""Losing workers: who is declared lost, and what becomes of their jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections

from django_durable.engine import liveness
from django_durable.engine.clock import StatementTimestamp
from django_durable.engine.maintenance import Maintenance
from django_durable.models import Worker
from tests.protocol.rules import Rule, patched, replaced
from tests.protocol.stage import ALIAS, PATIENCE, Stage
from tests.protocol.world import (
    AT_ONCE,
    LEASE,
    cancel,
    claim,
    claimed_job,
    lose,
    new_worker,
    state_of,
    suspend,
    sweep,
)

GATE = 7001
"""The advisory lock at which a paused statement waits."""

# --- the verdict


def nobody_who_gave_a_sign_of_life_is_declared_lost(stage: Stage) -> None:
    silent_id = new_worker(lease=AT_ONCE)
    (suspicion,) = liveness.find_suspicious_workers(connection, own_id=0)
    assert suspicion.worker_id == silent_id
    beat(silent_id)

    declared = liveness.declare_lost(connection.alias, suspicion)

    assert declared is None, "declared lost in spite of a heartbeat"


def beat(worker_id: int) -> liveness.Beat:
    return liveness.heartbeat(connection, worker_id=worker_id, has_lock=False, backlogged=False)


def a_worker_learns_that_it_was_declared_lost(stage: Stage) -> None:
    worker_id = new_worker()
    lose(worker_id)

    assert not beat(worker_id).alive, "a worker that was declared lost goes on"


def nobody_is_declared_lost_while_the_server_is_young(stage: Stage) -> None:
    """After a restart of the server every lock is free and every lease looks old."""
    patient_id = new_worker(lease=timedelta(days=10_000))
    expired = StatementTimestamp() - timedelta(days=1)
    Worker.objects.filter(pk=patient_id).update(lease_expires_at=expired, has_lock=True)

    suspicious = liveness.find_suspicious_workers(connection, own_id=0)

    assert suspicious == [], "suspected although the server is younger than the lease"


# --- the sweep


def a_job_skipped_by_one_sweep_is_found_by_the_next(stage: Stage) -> None:
    """An operator's cancel holds the row when the worker is declared lost, then is rolled back."""
    lost_id = new_worker(lease=AT_ONCE)
    job = claimed_job(lost_id)
    operator = stage.actor("operator")
    operator.begin()
    operator.do(cancel, job)
    maintenance = new_maintenance()

    maintenance.look_for_lost()
    assert Worker.objects.filter(pk=lost_id, lost_at__isnull=False).exists()
    assert state_of(job) == "RUNNING", "the sweep did not skip the locked row"
    operator.rollback()
    do_all_chores(maintenance)

    assert state_of(job) == "READY", "the job of a lost worker is stranded"


def new_maintenance() -> Maintenance:
    return Maintenance(
        connection=connections[ALIAS],
        worker_id=new_worker(),
        lease=LEASE,
        poll_interval=timedelta(seconds=1),
        woken=lambda: None,
    )


def do_all_chores(maintenance: Maintenance) -> None:
    for chore in maintenance._chores:
        chore.due_at = 0.0
    maintenance.run_due()


def a_job_that_went_to_sleep_meanwhile_is_not_swept(stage: Stage) -> None:
    """The sweep has seen it running, and its worker, slow but not dead, suspends it."""
    job = claimed_job(new_worker())
    assert job.worker_id is not None
    lose(job.worker_id)
    sweeping = stage.actor("sweep")
    with paused_after_looking() as go_on:
        swept = sweeping.start(sweep)
        assert sweeping.is_stopped_in(swept), "the sweep did not pause"
        assert suspend(job) is not None
        go_on()
        swept.result(PATIENCE)

    assert state_of(job) == "SCHEDULED", "a job that was asleep was swept"


def a_job_claimed_anew_meanwhile_is_not_swept(stage: Stage) -> None:
    """The sweep has seen it under the old claim; another one gave it back before."""
    job = claimed_job(new_worker())
    assert job.worker_id is not None
    lose(job.worker_id)
    slow = stage.actor("slow sweep")
    with paused_after_looking() as go_on:
        swept = slow.start(sweep)
        assert slow.is_stopped_in(swept), "the sweep did not pause"
        give_back_elsewhere()
        (anew,) = claim(new_worker())
        go_on()
        swept.result(PATIENCE)

    assert anew.pk == job.pk
    assert state_of(job) == "RUNNING", "a job was taken from its new holder"


def give_back_elsewhere() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(liveness, "RECOVER_JOBS", UNPAUSED)
        assert len(sweep()) == 1


UNPAUSED = liveness.RECOVER_JOBS


@contextmanager
def paused_after_looking() -> Iterator[Any]:
    """Sweeps wait between seeing which jobs are stranded and locking them."""
    seen = "worker.stopping_at is not null as was_stopping"
    paused = (
        f"(select worker.stopping_at is not null from pg_advisory_xact_lock_shared({GATE}))"
        " as was_stopping"
    )
    assert seen in liveness.RECOVER_JOBS
    with connection.cursor() as cursor, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(liveness, "RECOVER_JOBS", liveness.RECOVER_JOBS.replace(seen, paused))
        cursor.execute("select pg_advisory_lock(%s)", [GATE])
        try:
            yield lambda: cursor.execute("select pg_advisory_unlock(%s)", [GATE])
        finally:
            cursor.execute("select pg_advisory_unlock_all()")


# --- switched off


def sweep_only_at_the_verdict(self: Maintenance) -> None:
    _post_init(self)
    self._chores = [chore for chore in self._chores if chore.do != self.recover]


_post_init = Maintenance.__post_init__

RULES = [
    Rule(
        name="declared by what was seen",
        story=nobody_who_gave_a_sign_of_life_is_declared_lost,
        off={
            "whatever was seen": replaced(
                liveness,
                "DECLARE_LOST",
                "\n        and heartbeat_at = %(heartbeat_at)s::timestamptz",
                "",
            )
        },
        symptom="in spite of a heartbeat",
    ),
    Rule(
        name="heartbeat checks worker",
        story=a_worker_learns_that_it_was_declared_lost,
        off={"always alive": replaced(liveness, "HEARTBEAT", " and lost_at is null", "")},
        symptom="declared lost goes on",
    ),
    Rule(
        name="young server",
        story=nobody_is_declared_lost_while_the_server_is_young,
        off={
            "of any age": replaced(
                liveness,
                "FIND_SUSPICIOUS_WORKERS",
                "and pg_postmaster_start_time() < statement_timestamp() - worker.lease",
                "",
            )
        },
        symptom="suspected although",
    ),
    Rule(
        name="sweep again",
        story=a_job_skipped_by_one_sweep_is_found_by_the_next,
        off={"once": patched(Maintenance, "__post_init__", sweep_only_at_the_verdict)},
        symptom="is stranded",
    ),
    Rule(
        name="sweep guard",
        story=a_job_that_went_to_sleep_meanwhile_is_not_swept,
        off={
            "running or not": replaced(
                liveness, "RECOVER_JOBS", "where job.state = 'RUNNING'\n    order", "order"
            )
        },
        symptom="that was asleep was swept",
    ),
    Rule(
        name="sweep guard",
        story=a_job_claimed_anew_meanwhile_is_not_swept,
        off={
            "under any token": replaced(
                liveness, "RECOVER_JOBS", " and stranded.lease_token = job.lease_token", ""
            )
        },
        symptom="taken from its new holder",
    ),
]
