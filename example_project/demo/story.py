"""The story: customers order, workers are killed and frozen, others carry on; so do the people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from example_project.demo.books import read_books
from example_project.demo.customers import (
    CUSTOMERS,
    WITHOUT_MAIL,
    Crowd,
    Purchase,
    Receipt,
    Way,
    find_products,
    pay_at_bank,
    plan_purchases,
)
from example_project.demo.display import Display
from example_project.demo.evidence import (
    Session,
    Snapshot,
    count_open_questions,
    count_unsaved_charges,
    find_unpaid,
    find_unsaved_refund,
    is_batch_over,
    read_clock,
    read_loss,
    take_snapshot,
)
from example_project.demo.processes import Child, Crew
from example_project.demo.proof import Evidence, Wanted
from example_project.demo.staff import Decided, Errand, Person, decide, send_invoices
from example_project.demo.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is ordered, and when the blows fall."""

    manager: Person
    clerk: Person
    orders: int = 200
    double_clicks: int = 20
    at_bank: int = 8
    discounts: int = 8
    nowhere: int = 8
    slots: int = 8
    lease_seconds: int = 3
    grace_seconds: int = 5
    kill_after: float = 0.15
    """The part of all orders that is done when the first worker is killed."""
    freeze_after: float = 0.4
    jobs_hit: int = 3
    """A blow falls when the worker runs so many jobs, one of them between charge and checkpoint."""

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            orders=self.orders,
            undone=self.nowhere,
            paid=self.at_bank,
            decided=self.discounts,
            invoices=CUSTOMERS - WITHOUT_MAIL,
            failed_invoices=WITHOUT_MAIL,
        )


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
        self._receipts: list[Receipt] = []
        self._watch = Watch(session=session, on_look=self._look)

    def tell(self, port: int) -> Evidence:
        """Place the orders at the shop on that port, and see them through."""
        first, second = self._hire(), self._hire()
        purchases = self._plan_purchases(port)
        early = [purchase for purchase in purchases if purchase.way is not Way.NOWHERE]
        late = [purchase for purchase in purchases if purchase.way is Way.NOWHERE]
        with Crowd(port, early) as crowd:
            killed = self._kill(first)
            third = self._hire()
            manager = self._decide(port)
            self._watch_recovery(killed, first)
            self._watch.wait_for(f"{third.name} to register", lambda now: now.boot_of(third.pid))
            frozen = self._freeze(second)
            payers = self._pay(port)
            self._watch_recovery(frozen, second)
            self._thaw(frozen, second)
            self._await_receipts(crowd)
        self._display.say("All customers have seen their order's page.")
        decided = self._watch.wait_for("the manager", manager.look)
        self._watch.wait_for("the payments", payers.look)
        killed_undoing = self._undo(port, late)
        self._watch.wait_for("all orders' jobs to be finished", self._all_finished)
        self._display.say("All orders' jobs are finished.")
        self._bill(port)
        self._display.say("The workers are told to stop.")
        self._crew.stop(self._workers)
        return self._gather(decided, killed, frozen, killed_undoing)

    def _plan_purchases(self, port: int) -> list[Purchase]:
        plan, say = self._plan, self._display.say
        ways = {
            Way.BANK: plan.at_bank,
            Way.DISCOUNT: plan.discounts,
            Way.NOWHERE: plan.nowhere,
        }
        say(f"Customers order {plan.orders} times; {plan.double_clicks} of them click twice.")
        say(f"{plan.at_bank} will pay on the bank's page, {plan.discounts} ask for a discount.")
        pages = find_products(port)
        return plan_purchases(
            pages, orders=plan.orders, double_clicks=plan.double_clicks, ways=ways
        )

    def _decide(self, port: int) -> Errand[Decided]:
        """Send the manager, while a worker is dead and not yet missed."""
        wanted = self._plan.discounts

        def look(_: Snapshot) -> bool:
            return count_open_questions(self._session) == wanted

        self._watch.wait_for(f"{wanted} questions about discounts", look)
        self._display.say(f"A manager answers {wanted} requests for a discount, by double clicks.")
        return Errand(decide, port, self._plan.manager)

    def _pay(self, port: int) -> Errand[int]:
        """Send the customers to the bank, while a worker is frozen."""
        wanted = self._plan.at_bank

        def look(_: Snapshot) -> list[str] | None:
            unpaid = find_unpaid(self._session)
            return unpaid if len(unpaid) == wanted else None

        unpaid = self._watch.wait_for(f"{wanted} orders to wait for a payment", look)
        self._display.say(
            f"{wanted} customers pay at the bank, which tells the shop, partly twice."
        )
        return Errand(pay_at_bank, port, unpaid)

    def _await_receipts(self, crowd: Crowd) -> None:
        receipts = self._watch.wait_for("the customers to be served", lambda _: crowd.receipts())
        self._receipts += receipts

    def _undo(self, port: int, purchases: list[Purchase]) -> Blow:
        """Take orders that cannot be delivered, and kill a worker that is giving money back."""
        self._display.say(f"{len(purchases)} customers order to where no carrier goes.")
        with Crowd(port, purchases) as crowd:
            worker_id = self._watch.wait_for(
                "a worker that gives money back",
                lambda _: find_unsaved_refund(self._session),
            )
            blow = Blow(worker_id=worker_id, struck_at=read_clock(self._session))
            worker = self._worker_of(worker_id)
            worker.kill()
            self._display.say(f"kill -9 for {worker.name}, which was returning money.")
            self._watch_recovery(blow, worker)
            self._await_receipts(crowd)
        return blow

    def _worker_of(self, worker_id: int) -> Child:
        (pid,) = (
            boot.pid for boot in take_snapshot(self._session).boots if boot.worker_id == worker_id
        )
        (worker,) = (worker for worker in self._workers if worker.pid == pid)
        return worker

    def _bill(self, port: int) -> None:
        """Send the invoices from the office."""
        self._watch.wait_for("the office", Errand(send_invoices, port, self._plan.clerk).look)
        self._display.say(f"The office bills {CUSTOMERS} customers, one job for each.")
        self._watch.wait_for("the invoices", lambda _: is_batch_over(self._session))
        self._display.say("The invoices are made, and the office has its summary.")

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

    def _gather(self, decided: Decided, *blows: Blow) -> Evidence:
        session = self._session
        survivors = [worker for worker in self._workers if not worker.is_killed]
        killed, frozen, killed_undoing = (
            read_loss(session, blow.worker_id, blow.struck_at) for blow in blows
        )
        return Evidence(
            wanted=self._plan.wanted,
            clicks=sum(len(receipt.pages) for receipt in self._receipts),
            pages=len({page for receipt in self._receipts for page in receipt.pages}),
            manager_clicks=decided.clicks,
            accepted=decided.accepted,
            books=read_books(session),
            killed=killed,
            frozen=frozen,
            killed_undoing=killed_undoing,
            survivors=len(survivors),
            stopped_well=sum(worker.has_stopped_well for worker in survivors),
        )
