"""A worker is frozen past its lease, taken for lost, and continued: its late writes are refused."""

from django.db import connection, transaction

from django_durable import enqueue
from django_durable.models import Checkpoint, Worker
from tests.scenarios.harness import Gates, Workers, eventually, job_is
from tests.testapp import durable_stories as stories
from tests.testapp.models import Account, Charge

LEASE = ("--lease", "2")


def test_what_a_frozen_worker_writes_late_is_refused_and_it_registers_anew(
    workers: Workers, gates: Gates
) -> None:
    job = enqueue(stories.inside_plain, "a")
    frozen = workers.start(*LEASE).has_lock()
    gates.reached("inside-a")
    frozen.freeze()
    workers.start()
    gates.open("inside-a")
    job_is(job, "SUCCESSFUL")
    winner = Checkpoint.objects.get(job_id=job.pk)

    frozen.thaw()

    eventually(lambda: Worker.objects.filter(pid=frozen.pid).count() > 1, "it registered anew")
    eventually(lambda: "declared lost" in frozen.output, "it said so")
    job.refresh()
    assert (job.state, job.lease_token) == ("SUCCESSFUL", 2)
    after = Checkpoint.objects.get(job_id=job.pk)
    assert (after.lease_token, after.saved_at) == (2, winner.saved_at)
    again = enqueue(stories.quick, "b")
    job_is(again, "SUCCESSFUL")


def test_the_rows_a_frozen_worker_holds_are_free_within_a_lease(
    workers: Workers, gates: Gates
) -> None:
    Account.objects.create(name="x", balance=10)
    job = enqueue(stories.debit_account, "x")
    frozen = workers.start(*LEASE).has_lock()
    gates.reached("debited-x")
    frozen.freeze()
    workers.start()
    gates.open("debited-x")

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("set local lock_timeout = '60s'")
        Account.objects.select_for_update().get(name="x")
    job_is(job, "SUCCESSFUL")
    frozen.thaw()

    eventually(lambda: Worker.objects.filter(pid=frozen.pid).count() > 1, "it registered anew")
    assert Account.objects.get(name="x").balance == 9


def test_a_long_body_of_a_live_worker_is_never_taken_over(workers: Workers, gates: Gates) -> None:
    job = enqueue(stories.gated, "a")
    holder = workers.start("--lease", "6").has_lock()
    gates.reached("body-a")
    workers.start("--lease", "6").has_lock()
    begun = eventually(lambda: holder.row and holder.row.heartbeat_at, "a heartbeat")

    def a_lease_later() -> bool:
        assert holder.row is not None
        return (holder.row.heartbeat_at - begun).total_seconds() > 8

    eventually(a_lease_later, "more than a lease passed")
    gates.open("body-a")

    job_is(job, "SUCCESSFUL")
    assert job.lease_token == 1
    assert gates.count("body-a") == 1
    assert not Charge.objects.exists()
