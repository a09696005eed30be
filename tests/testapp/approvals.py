"""Tasks that ask people, and the forms they are answered with."""

from datetime import timedelta
from typing import Any

from django import forms

from django_durable import step, task, wait_for_approval
from tests.scenarios.harness import pass_gate
from tests.testapp.models import Account, Charge


class AmountForm(forms.Form):
    amount = forms.IntegerField(min_value=1, help_text="What is paid back.")
    note = forms.CharField(required=False, label="A note for the customer")


class AccountForm(forms.Form):
    """Its answers are model instances."""

    account = forms.ModelChoiceField(queryset=Account.objects.order_by("pk"))
    others = forms.ModelMultipleChoiceField(queryset=Account.objects.order_by("pk"), required=False)


class OwnReasonForm(forms.Form):
    reason = forms.CharField(max_length=5)


@step(atomic=True)
def charged(ref: str) -> int:
    return Charge.objects.create(order_ref=ref).pk


@task(path="testapp.asks")
def asks(title: str = "Refund order 42?", **options: Any) -> dict[str, Any]:
    """Asks, and leaves a charge for the branch it took."""
    decision = wait_for_approval(title, **({"group": "accounting"} | options))
    branch = "timed out" if decision is None else "approved" if decision.approved else "rejected"
    charged(branch)
    if decision is None:
        return {"branch": branch}
    by = decision.answered_by
    return {
        "branch": branch,
        "data": decision.data,
        "by": by.get_username() if by is not None else None,
        "name": decision.answered_by_name,
        "at": decision.answered_at,
    }


@task(path="testapp.asks_with_form")
def asks_with_form(ref: str, deadline: timedelta | None = None) -> dict[str, Any]:
    decision = wait_for_approval(
        f"Refund order {ref}?", form=AmountForm, group="accounting", deadline=deadline
    )
    charged(f"{ref}:{'timed out' if decision is None else decision.data.get('amount')}")
    return {} if decision is None else decision.data


@task(path="testapp.asks_then_stops")
def asks_then_stops(ref: str, deadline: timedelta | None = None) -> str:
    """Stops between the decision and the step of its branch."""
    decision = wait_for_approval("Go?", group="accounting", deadline=deadline)
    pass_gate(f"decided-{ref}")
    branch = "timed out" if decision is None else "approved" if decision.approved else "rejected"
    charged(f"{ref}:{branch}")
    return branch
