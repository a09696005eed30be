"""Placing an order, and saying how far it is."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction

from django_durable import enqueue
from django_durable.models import Checkpoint, CheckpointState, Job
from example_project.shop.models import Order, Product
from example_project.shop.tasks import fulfil_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A customer's valid form."""

    key: uuid.UUID
    product: Product
    quantity: int
    email: str
    card: str


@transaction.atomic
def place_order(wish: Wish) -> Order:
    """Write the order and enqueue the job: both are committed, or neither.

    Asked twice with one key, it answers twice with one order, which has one job.
    """
    order, _ = Order.objects.get_or_create(
        key=wish.key,
        defaults={
            "product": wish.product,
            "quantity": wish.quantity,
            "total": wish.product.price * wish.quantity,
            "email": wish.email,
            "card": wish.card,
        },
    )
    enqueue(fulfil_order.using(idempotency_key=str(order.key), subject=order), order)
    return order


STAGES = {
    "charge_card": "Charge your card",
    "reserve_stock": "Take it from the shelf",
    "create_shipment": "Hand the parcel over",
    "send_mail": "Write to you",
}
OTHER_STAGES = {
    "refund": "Return your money",
    "close_order": "Write to you",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step of the job, as the customer sees it."""

    title: str
    state: str
    """done, failed, working, retrying or ahead."""
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
    job = Job.objects.filter(subject_type="shop.order", subject_key=str(order.pk)).first()
    if job is None:
        return Progress(job=None, stages=[])
    checkpoints = Checkpoint.objects.filter(job_id=job.pk).order_by("seq")
    return Progress(job=job, stages=list_stages(job.state, list(checkpoints)))


def list_stages(job_state: str, checkpoints: list[Checkpoint]) -> list[Stage]:
    """The steps taken, then, while the job lives, those ahead."""
    titles = STAGES | OTHER_STAGES
    stages = [
        Stage(
            title=titles.get(checkpoint.identity, checkpoint.identity),
            state=_STATES[checkpoint.state],
            took=checkpoint.saved_at - checkpoint.started_at,
        )
        for checkpoint in checkpoints
    ]
    if job_state in ("SUCCESSFUL", "FAILED", "CANCELLED"):
        return stages
    recorded = {checkpoint.identity for checkpoint in checkpoints}
    ahead = [title for name, title in STAGES.items() if name not in recorded]
    is_working = job_state == "RUNNING" and not any(stage.state == "retrying" for stage in stages)
    for title in ahead:
        stages.append(Stage(title=title, state="working" if is_working else "ahead"))
        is_working = False
    return stages


_STATES = {
    CheckpointState.STARTED.value: "working",
    CheckpointState.RETRYING.value: "retrying",
    CheckpointState.SUCCESSFUL.value: "done",
    CheckpointState.FAILED.value: "failed",
}
