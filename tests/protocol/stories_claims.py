"""Taking jobs: what a claim holds, what it loads, and the look after an unanswered one."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, models, transaction

from django_durable.engine import claims, liveness, locking, membership, sessions, worker
from django_durable.engine.checkpoints import load_checkpoints
from django_durable.engine.claiming import Claimer
from django_durable.engine.clock import machine_seconds
from django_durable.engine.listener import Hooks, Lease, Listener
from django_durable.engine.maintenance import Maintenance
from django_durable.engine.serving import Serving
from django_durable.engine.slots import Slots
from django_durable.engine.writer import GroupWriter
from django_durable.models import Job, JobQuerySet, Worker
from tests.protocol.lossy import Fate
from tests.protocol.rules import Rule, both, patched, replaced
from tests.protocol.runs import declare_plain
from tests.protocol.stage import ALIAS, PATIENCE, Stage
from tests.protocol.world import (
    AT_ONCE,
    LEASE,
    QUEUE,
    claim,
    claimant,
    lose,
    new_job,
    new_worker,
    save,
    state_of,
    suspend,
)

UNKNOWN = "runs under a living worker that does not know it"


def worker_process(worker_id: int, writer: GroupWriter) -> worker.Worker:
    """A worker as its main thread finds it after its boot; its slots are never started."""
    process = worker.Worker(membership.WorkerOptions(queues=[QUEUE], slots=1))
    process.slots = Slots(1, freed=lambda: None)
    process.writer = writer
    process._slot_sessions = sessions.SlotSessions(is_pooled=False, role="", may_be_ended=True)
    lease = Lease(LEASE)
    unheard = Hooks(woken=lambda _: None, cancelled=lambda _: None, lost=lambda: None)
    silent = Listener(worker_id=worker_id, lease=lease, alias=ALIAS, writer=writer, hooks=unheard)
    process.member = membership.Membership(
        worker_id=worker_id,
        code_version="one",
        lease=lease,
        listener=silent,
        claimer=Claimer(
            claimant=claimant(worker_id),
            slots=process.slots,
            listener=silent,
            serving=Serving((QUEUE,)),
        ),
        maintenance=Maintenance(
            connection=connections[ALIAS],
            worker_id=worker_id,
            lease=LEASE,
            poll_interval=timedelta(seconds=1),
            woken=lambda: None,
        ),
    )
    process._next_reconcile = machine_seconds() + 3600
    return process


# --- reconciling


def a_claim_whose_commit_is_unanswered_is_found(stage: Stage) -> None:
    declare_plain(lambda: "value")
    job = new_job("protocol.plain")
    main = stage.actor("main thread")
    process = main.do(worker_process, new_worker(), stage.writer())
    main.do(stage.lose_connection, "COMMIT", Fate.ANSWER_LOST)

    with pytest.raises(OperationalError):
        main.do(process._claim)
    assert state_of(job) == "RUNNING"
    main.do(process._tick)

    token = Job.objects.values_list("lease_token", flat=True).get(pk=job.pk)
    known = process.slots.known_claims()
    assert known == [(job.pk, token)], f"the job {UNKNOWN}: token {token}, it knows {known}"


def reconciling_waits_for_a_claim_in_flight(stage: Stage) -> None:
    """The client gave up its claim's COMMIT; the server is still at it."""
    job, worker_id = new_job(), new_worker()
    claiming, reconciling = stage.actors("claim in flight", "reconciling")
    claiming.begin()
    claiming.do(claim, worker_id)

    looking = reconciling.start(reconcile, worker_id)
    reconciling.is_stopped_in(looking)
    claiming.commit()
    looking.result(PATIENCE)

    assert state_of(job) == "READY", f"the job {UNKNOWN}"


def reconcile(worker_id: int) -> None:
    with transaction.atomic():
        claims.release_unknown_jobs(connection, worker_id=worker_id, known=[])


# --- who may claim


def a_worker_declared_lost_claims_nothing(stage: Stage) -> None:
    job, worker_id = new_job(), new_worker()
    lose(worker_id)
    with suppress(claims.WorkerLost):
        claim(worker_id)

    assert state_of(job) == "READY", "a worker that was declared lost claimed a job"


def nobody_is_declared_lost_in_the_middle_of_a_claim(stage: Stage) -> None:
    new_job()
    worker_id = new_worker()
    claiming, other = stage.actors("claim in flight", "another worker")
    claiming.begin()
    claiming.do(claim, worker_id)

    declaring = other.start(declare_whatever_it_did, worker_id)
    other.is_stopped_in(declaring)
    lost = Worker.objects.filter(pk=worker_id, lost_at__isnull=False).exists()
    claiming.commit()

    assert not lost, "a worker was declared lost in the middle of its claim"


def declare_whatever_it_did(worker_id: int) -> Any | None:
    seen = Worker.objects.get(pk=worker_id).heartbeat_at
    return liveness.declare_lost(
        connection.alias, liveness.Suspicion(worker_id=worker_id, heartbeat_at=seen, expired=True)
    )


# --- what a claim locks and loads


def a_claim_passes_transactions_that_only_refer_to_the_job(stage: Stage) -> None:
    """As a foreign key to the job does: it locks the row for key share."""
    job = new_job()
    referring = stage.actor("a view")
    referring.begin()
    referring.do(lock_row, job, "for key share")

    claimed = claim(new_worker())

    assert [one.pk for one in claimed] == [job.pk], "a foreign key hid the job from the claim"


def lock_row(row: models.Model, mode: str) -> None:
    table, key = row._meta.db_table, row._meta.pk.column
    with connection.cursor() as cursor:
        cursor.execute(f"select 1 from {table} where {key} = %s {mode}", [row.pk])


def checkpoints_are_loaded_after_the_job_is_locked(stage: Stage) -> None:
    """A slow claim waits its turn; meanwhile the job runs elsewhere, saves, sleeps and is woken."""
    declare_plain(lambda: "value")
    job = new_job("protocol.plain")
    slow_id = new_worker()
    keeper, slow = stage.actors("keeper", "slow worker")
    process = slow.do(worker_process, slow_id, stage.writer())
    keeper.begin()
    keeper.do(lock_row, Worker.objects.get(pk=slow_id), "for update")
    claiming = slow.start(process._claim)
    assert slow.is_stopped_in(claiming), "the claim did not wait for its worker's row"

    (elsewhere,) = claim(new_worker())
    assert save(elsewhere, "fetch").saved
    suspended = suspend(elsewhere, AT_ONCE)
    assert suspended is not None
    assert suspended.state == "READY"
    keeper.commit()
    claiming.result(PATIENCE)

    (run,) = process.slots.known_runs
    assert "fetch" in run.history.records, "a step that is saved runs again"
    assert run.job.pk == job.pk


# --- switched off


def load_then_claim(self: worker.Worker) -> None:
    ready = Job.objects.filter(state="READY").values_list("pk", flat=True)
    early = load_checkpoints(ALIAS, list(ready))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(worker, "load_checkpoints", lambda alias, job_ids: early)
        _claim(self)


def lock_against_foreign_keys(self: JobQuerySet, *, no_key: bool, **options: Any) -> Any:
    assert no_key
    return super(JobQuerySet, self).select_for_update(**options)


_claim = worker.Worker._claim

RULES = [
    Rule(
        name="reconcile",
        story=a_claim_whose_commit_is_unanswered_is_found,
        off={"never": patched(worker.Worker, "_reconcile", lambda self: None)},
        symptom=UNKNOWN,
    ),
    Rule(
        name="reconcile locked",
        story=reconciling_waits_for_a_claim_in_flight,
        off={
            "looks unlocked": replaced(claims, "HOLD_WORKER_ALONE", "for update", ""),
            "claims unlocked": replaced(claims, "HOLD_WORKER", "for key share", ""),
        },
        symptom=UNKNOWN,
    ),
    Rule(
        name="claim checks worker",
        story=a_worker_declared_lost_claims_nothing,
        off={"whether lost or not": replaced(claims, "HOLD_WORKER", " and lost_at is null", "")},
        symptom="that was declared lost claimed",
    ),
    Rule(
        name="claim checks worker",
        story=nobody_is_declared_lost_in_the_middle_of_a_claim,
        off={"unlocked": replaced(claims, "HOLD_WORKER", "for key share", "")},
        symptom="in the middle of its claim",
    ),
    Rule(
        name="no key",
        story=a_claim_passes_transactions_that_only_refer_to_the_job,
        off={
            "for update": both(
                patched(JobQuerySet, "select_for_update", lock_against_foreign_keys),
                patched(locking, "_write", locking._write.__wrapped__),
            )
        },
        symptom="a foreign key hid the job",
    ),
    Rule(
        name="load after lock",
        story=checkpoints_are_loaded_after_the_job_is_locked,
        off={"load, then lock": patched(worker.Worker, "_claim", load_then_claim)},
        symptom="a step that is saved runs again",
    ),
]
