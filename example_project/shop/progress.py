"""How far an order is, as its customer sees it: the steps of its job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django_durable.models import Checkpoint, CheckpointState, Job
from example_project.shop.models import Order
from example_project.shop.orders import find_job

STAGES = {
    "accept_order": "Accept your order",
    "approval": "Ask a manager about the discount",
    "set_price": "Settle the price",
    "charge_card": "Charge your card",
    "ask_for_payment": "Send you to the bank",
    "event:paid": "Wait for your payment",
    "reserve_stock": "Take it from the shelf",
    "create_shipment": "Hand the parcel over",
    "send_mail": "Write to you",
}
OTHER_STAGES = {
    "expire": "Stop waiting",
    "note_trouble": "Find out that it is not possible",
    "close_order": "Write to you",
}
UNDOING = {
    "accept_order": "Write to you",
    "charge_card": "Return your money",
    "ask_for_payment": "Return your payment, if any",
    "reserve_stock": "Put it back on the shelf",
    "create_shipment": "Call the parcel back",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step of the job, as the customer sees it."""

    title: str
    state: str
    """done, failed, undone, working, waiting, left (nobody waits any more), retrying or ahead."""
    took: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an order is: its job (None once that is pruned) and the job's steps."""

    job: Job | None
    stages: list[Stage]

    @property
    def is_finished(self) -> bool:
        return self.job is None or self.job.is_finished


def find_progress(order: Order) -> Progress:
    """Look at the order's job and at its checkpoints (two queries)."""
    job = find_job(order)
    if job is None:
        return Progress(job=None, stages=[])
    checkpoints = Checkpoint.objects.filter(job_id=job.pk).order_by("seq")
    planned = plan_stages(order)
    return Progress(job=job, stages=list_stages(job, list(checkpoints), planned))


def plan_stages(order: Order) -> list[str]:
    """The identities of the steps that an order takes if all goes well."""
    left_out = ["ask_for_payment", "event:paid"] if order.card else ["charge_card"]
    if not order.discount_wish:
        left_out += ["approval", "set_price"]
    return [identity for identity in STAGES if identity not in left_out]


def list_stages(job: Job, checkpoints: list[Checkpoint], planned: list[str]) -> list[Stage]:
    """The steps taken, then, while the job lives and means well, those ahead."""
    is_ending = job.is_finished or bool(job.ends_as or job.cancel_requested_at)
    stages = [
        Stage(
            title=_title(checkpoint.identity),
            state=_state(checkpoint, is_ending=is_ending),
            took=checkpoint.saved_at - checkpoint.started_at,
        )
        for checkpoint in checkpoints
    ]
    if is_ending:
        return stages
    recorded = {checkpoint.identity for checkpoint in checkpoints}
    pausing = any(stage.state in ("retrying", "waiting") for stage in stages)
    is_working = job.state == "RUNNING" and not pausing
    for identity in planned:
        if identity not in recorded:
            stages.append(Stage(title=_title(identity), state="working" if is_working else "ahead"))
            is_working = False
    return stages


def _title(identity: str) -> str:
    if identity.startswith("compensation@"):
        undone = identity.partition("/")[2]
        return UNDOING.get(undone, f"Undo {undone}")
    return (STAGES | OTHER_STAGES).get(identity, identity)


def _state(checkpoint: Checkpoint, *, is_ending: bool) -> str:
    if checkpoint.kind in ("event", "approval") and checkpoint.state == CheckpointState.STARTED:
        return "left" if is_ending else "waiting"
    return _STATES[checkpoint.state]


_STATES = {
    CheckpointState.STARTED.value: "working",
    CheckpointState.RETRYING.value: "retrying",
    CheckpointState.SUCCESSFUL.value: "done",
    CheckpointState.FAILED.value: "failed",
    CheckpointState.COMPENSATED.value: "undone",
}
