"""The story: customers order, one worker is killed, another one freezes, a third carries on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from example_project.demo.customers import Crowd, Receipt, find_products, plan_purchases
from example_project.demo.display import Display
from example_project.demo.evidence import (
    Session,
    Snapshot,
    count_unsaved_charges,
    read_books,
    read_clock,
    read_loss,
)
from example_project.demo.processes import Child, Crew
from example_project.demo.proof import Evidence
from example_project.demo.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is ordered, and when the blows fall."""

    orders: int = 200
    double_clicks: int = 20
    slots: int = 8
    lease_seconds: int = 3
    grace_seconds: int = 5
    kill_after: float = 0.15
    """The part of all orders that is done when the first worker is killed."""
    freeze_after: float = 0.4
    jobs_hit: int = 3
    """A blow falls when the worker runs so many jobs, one of them between charge and checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """A worker that was struck, and when, by the database's clock."""

    worker_id: int
    struck_at: datetime


class Story:
    """Tells the story once, from the first order to the evidence."""

    def __init__(self, plan: Plan, *, crew: Crew, session: Session, display: Display) -> None:
        self._plan = plan
        self._crew = crew
        self._session = session
        self._display = display
        self._workers: list[Child] = []
        self._watch = Watch(session=session, on_look=self._look)

    def tell(self, port: int) -> Evidence:
        """Place the orders at the shop on that port, and see them through."""
        plan, say = self._plan, self._display.say
        first, second = self._hire(), self._hire()
        purchases = plan_purchases(
            find_products(port), orders=plan.orders, double_clicks=plan.double_clicks
        )
        say(f"Customers order {plan.orders} times; {plan.double_clicks} of them click twice.")
        with Crowd(port, purchases) as crowd:
            killed = self._kill(first)
            third = self._hire()
            self._watch_recovery(killed, first)
            self._watch.wait_for(f"{third.name} to register", lambda now: now.boot_of(third.pid))
            frozen = self._freeze(second)
            self._watch_recovery(frozen, second)
            self._thaw(frozen, second)
            receipts = self._watch.wait_for(
                "the customers to be served", lambda _: crowd.receipts()
            )
        say(f"All customers have seen their order's page, after {self._clicks(receipts)} clicks.")
        self._watch.wait_for("all jobs to be finished", self._all_finished)
        say("All jobs are finished; the workers are told to stop.")
        self._crew.stop(self._workers)
        return self._gather(receipts, killed, frozen)

    def _look(self, snapshot: Snapshot) -> None:
        self._display.show(snapshot, self._workers)
        self._crew.check()

    def _hire(self) -> Child:
        plan = self._plan
        worker = self._crew.start(
            f"worker {len(self._workers) + 1}",
            "durable_worker",
            f"--slots={plan.slots}",
            f"--lease={plan.lease_seconds}",
            f"--grace={plan.grace_seconds}",
        )
        self._workers.append(worker)
        self._display.say(f"{worker.name.capitalize()} starts: process {worker.pid}.")
        return worker

    def _kill(self, worker: Child) -> Blow:
        worker_id, jobs = self._await_moment(worker, self._plan.kill_after)
        blow = Blow(worker_id=worker_id, struck_at=read_clock(self._session))
        worker.kill()
        self._display.say(f"kill -9 for {worker.name}, which ran {jobs} jobs.")
        return blow

    def _freeze(self, worker: Child) -> Blow:
        worker_id, jobs = self._await_moment(worker, self._plan.freeze_after)
        blow = Blow(worker_id=worker_id, struck_at=read_clock(self._session))
        worker.freeze()
        self._display.say(f"{worker.name.capitalize()} freezes (SIGSTOP), running {jobs} jobs.")
        return blow

    def _await_moment(self, worker: Child, part: float) -> tuple[int, int]:
        """Wait for the moment at which a blow hurts most: the worker's id, and its jobs."""
        enough = round(self._plan.orders * part)

        def look(now: Snapshot) -> tuple[int, int] | None:
            boot = now.boot_of(worker.pid)
            if boot is None or now.finished < enough or boot.running < self._plan.jobs_hit:
                return None
            if not count_unsaved_charges(self._session, boot.worker_id):
                return None
            return boot.worker_id, boot.running

        what = f"{enough} finished jobs and {self._plan.jobs_hit} running ones of {worker.name}"
        return self._watch.wait_for(what, look)

    def _watch_recovery(self, blow: Blow, worker: Child) -> None:
        what = f"{worker.name} to be declared lost, and a job of it to be claimed again"
        loss = self._watch.wait_for(what, self._has_resumed(blow))
        self._display.say(
            f"{worker.name.capitalize()} is declared lost; its jobs went on after {loss:.2f} s."
        )

    def _thaw(self, blow: Blow, worker: Child) -> None:
        worker.thaw()
        self._display.say(f"{worker.name.capitalize()} wakes up (SIGCONT), still holding its jobs.")

        def look(now: Snapshot) -> bool:
            boot = now.boot_of(worker.pid)
            return boot is not None and boot.worker_id != blow.worker_id

        self._watch.wait_for(f"{worker.name} to notice, and to register anew", look)
        self._display.say(f"{worker.name.capitalize()} was told that it is lost, and begins anew.")

    def _has_resumed(self, blow: Blow) -> Callable[[Snapshot], float | None]:
        def look(now: Snapshot) -> float | None:
            loss = read_loss(self._session, blow.worker_id, blow.struck_at)
            is_stripped = all(
                boot.running == 0 for boot in now.boots if boot.worker_id == blow.worker_id
            )
            return loss.seconds_to_resume if loss.is_lost and is_stripped else None

        return look

    def _all_finished(self, now: Snapshot) -> bool:
        return now.finished > 0 and now.finished == sum(now.jobs.values())

    def _clicks(self, receipts: list[Receipt]) -> int:
        return sum(len(receipt.pages) for receipt in receipts)

    def _gather(self, receipts: list[Receipt], killed: Blow, frozen: Blow) -> Evidence:
        session = self._session
        survivors = self._workers[1:]
        return Evidence(
            survivors=len(survivors),
            stopped_well=sum(worker.has_stopped_well for worker in survivors),
            orders_wanted=self._plan.orders,
            clicks=self._clicks(receipts),
            pages=len({page for receipt in receipts for page in receipt.pages}),
            books=read_books(session),
            killed=read_loss(session, killed.worker_id, killed.struck_at),
            frozen=read_loss(session, frozen.worker_id, frozen.struck_at),
        )
