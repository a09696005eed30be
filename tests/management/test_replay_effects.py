"""``durable replay`` of jobs with branches and children, and that it leaves nothing behind."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import translation

from django_durable import (
    agather,
    apatched,
    current_job,
    enqueue,
    first,
    fork_job,
    gather,
    send_event,
    sleep,
    step,
)
from django_durable.engine import rehearsing
from django_durable.signals import job_finished, job_started
from tests.builders import (
    HOUR,
    crashed_job,
    ended_job,
    receiver_of,
)
from tests.management.console import typed
from tests.management.rehearsed import (
    CALLS,
    begun_job,
    check,
    child,
    deployed,
    found,
    nothing_written,
    obstacles,
    resumed_until,
    work,
)
from tests.sessions import second_session
from tests.testapp.models import Charge

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


class ComposedTests:
    def test_each_branch_is_replayed_to_its_own_end(self) -> None:
        def one() -> None:
            work("a")
            sleep(HOUR)

        def other() -> None:
            work("b")
            sleep(HOUR)

        def changed() -> None:
            check()
            work("b")

        ended_job(deployed(lambda: gather(one, other)))
        CALLS.clear()
        assert obstacles() == []

        deployed(lambda: gather(one, changed))

        assert found().startswith("gather/1/work (recorded, not reached yet) // gather/1/check")
        assert CALLS == []

    def test_branches_of_first_too(self) -> None:
        def one() -> None:
            work("a")
            sleep(HOUR)

        ended_job(deployed(lambda: first(one, lambda: sleep(HOUR))))
        assert obstacles() == []

        deployed(lambda: first(lambda: (check(), work("a")), lambda: sleep(HOUR)))

        assert "first/0/check" in found()

    def test_a_branch_of_first_that_would_end_now_ends_the_replay(self) -> None:
        ended_job(deployed(lambda: first(lambda: (work("a"), sleep(HOUR)), lambda: sleep(HOUR))))
        deployed(lambda: (first(lambda: work("a"), lambda: sleep(HOUR)), 1 / 0))

        assert obstacles() == []

    def test_async_tasks(self) -> None:
        @step
        async def fetch(name: str) -> str:
            CALLS.append(name)
            return name

        async def run() -> None:
            await agather(fetch("a"), fetch("b"))
            await fetch("c")
            await fetch("d")

        crashed_job(deployed(run), after="fetch")
        CALLS.clear()
        assert obstacles() == []

        async def changed() -> None:
            await agather(fetch("a"), fetch("b"))
            if await apatched("x"):
                await fetch("x")
            check_it = await check.acall()
            await fetch(f"c{check_it}")

        job = deployed(run).enqueue()
        resumed_until(job, "fetch#2")
        deployed(changed)

        assert any("check, which has no checkpoint" in one["found"] for one in obstacles())
        assert CALLS.count("x") == 0

    def test_children_that_were_enqueued_are_found_and_no_others_made(self) -> None:
        def run() -> None:
            one = enqueue(child, "one")
            work(str(one.pk))
            started = child.start("two")
            work(str(started.job.pk))
            sleep(HOUR)

        ended_job(deployed(run))

        with nothing_written():
            assert obstacles() == []

    def test_a_new_call_to_enqueue_before_recorded_steps_goes_on_to_them(self) -> None:
        begun_job()
        deployed(lambda name="x": (enqueue(child), check()))

        with nothing_written():
            assert "check, which has no checkpoint" in found()

    def test_a_job_named_by_a_key_is_found(self) -> None:
        keyed = child.using(idempotency_key="k")

        def run() -> None:
            work(str(enqueue(keyed).pk))
            sleep(HOUR)

        enqueue(keyed)
        ended_job(deployed(run))

        assert obstacles() == []

    def test_a_new_key_is_not_taken(self) -> None:
        begun_job()
        deployed(
            lambda name="x": (enqueue(child.using(idempotency_key="k")), work("x1"), work("y"))
        )

        with nothing_written():
            assert obstacles() == []

    def test_events_are_not_sent_again(self) -> None:
        def run(target: str) -> None:
            send_event(target, "said", 1)
            work("a")
            send_event(target, "said", 2)
            sleep(HOUR)

        ended_job(deployed(run), str(enqueue(child.using(delay=HOUR)).pk))

        with nothing_written():
            assert obstacles() == []

    def test_a_fork_finds_what_its_source_enqueued(self) -> None:
        def run() -> None:
            enqueue(child, "one")
            work("a")
            work("b")

        source = ended_job(deployed(run))
        fork_job(source, from_step="work#2")

        with nothing_written():
            assert obstacles() == []


class RolledBackTests:
    def test_what_the_code_between_the_steps_writes_is_rolled_back(self) -> None:
        callbacks: list[int] = []

        def run(name: str = "x") -> None:
            Charge.objects.create(order_ref="between")
            with transaction.atomic(durable=True):
                Charge.objects.create(order_ref="inside")
                transaction.on_commit(lambda: callbacks.append(1))
            work("x1")

        begun_job()
        deployed(run)

        with nothing_written():
            assert obstacles() == []
        assert callbacks == []

    def test_it_sees_what_it_has_written(self) -> None:
        def run(name: str = "x") -> None:
            Charge.objects.create(order_ref="between")
            assert Charge.objects.count() == 1
            work("x1")

        begun_job()
        deployed(run)

        assert obstacles() == []

    def test_an_interrupt_leaves_nothing(self) -> None:
        def run(name: str = "x") -> None:
            Charge.objects.create(order_ref="between")
            raise KeyboardInterrupt

        begun_job()
        deployed(run)

        with nothing_written(), pytest.raises(KeyboardInterrupt):
            typed("replay")

    def test_no_signal_is_sent_and_the_job_seems_to_run(self) -> None:
        heard: list[str] = []
        states: list[str] = []

        def run(name: str = "x") -> None:
            job = current_job()
            assert job is not None
            states.append(job.state)
            work("x1")

        begun_job()
        deployed(run)

        def receiver(**_: Any) -> None:
            heard.append("signal")

        with receiver_of(job_started, receiver), receiver_of(job_finished, receiver):
            assert obstacles() == []
        assert (heard, states) == ([], ["RUNNING"])

    def test_it_runs_with_what_was_in_force_where_the_job_was_enqueued(self) -> None:
        seen: list[str | None] = []

        def run(name: str = "x") -> None:
            seen.append(translation.get_language())
            work("x1")

        before = translation.get_language()
        with translation.override("de"):
            begun_job()
        deployed(run)

        assert obstacles() == []
        assert (seen, translation.get_language()) == (["de"], before)

    def test_a_row_that_somebody_holds_is_no_obstacle(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(name: str = "x") -> None:
            with connection.cursor() as cursor:
                cursor.execute(lock)

        lock = "select pg_advisory_xact_lock(4711)"
        begun_job()
        deployed(run)
        monkeypatch.setattr(rehearsing, "LOCK_SECONDS", 0.1)

        with second_session() as session, session.transaction():
            session.execute(lock)
            text = typed("replay")

        assert "1 job could not be judged: code between the steps met locked rows." in text
