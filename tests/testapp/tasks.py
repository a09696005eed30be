"""Tasks of the test suite. Each leaves rows behind that show how often its parts ran."""

from django_durable import step, task
from tests.testapp.models import Charge


@step
def charge(order_ref: str, amount: int) -> dict[str, object]:
    row = Charge.objects.create(order_ref=order_ref, amount=amount)
    return {"id": row.pk, "amount": amount}


@step(atomic=True)
def reserve(order_ref: str) -> int:
    return Charge.objects.create(order_ref=f"{order_ref}:reserved").pk


@task
def fulfil(order_ref: str, amount: int = 10) -> str:
    payment = charge(order_ref, amount)
    reserve(order_ref)
    return f"{order_ref} paid {payment['amount']}"
