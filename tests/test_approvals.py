"""Asking people and answering, by the engine's own rules in one process."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django import forms
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.test import TestCase, override_settings
from django.utils.functional import lazystr

from django_durable import (
    answer_approval,
    await_for_approval,
    cancel_job,
    continue_as,
    emit_event,
    first,
    gather,
    open_approvals,
    retry_job,
    step,
    task,
    wait_for_approval,
)
from django_durable.engine import approvals as store
from django_durable.engine.retention import Rule, prune_jobs
from django_durable.exceptions import (
    ApprovalClosedError,
    ApprovalDeniedError,
    ApprovalFormError,
    ApprovalNotFoundError,
    ApprovalRequestError,
    InvalidOptionError,
    StepInTransactionError,
    UnknownFormError,
    WaitInStepError,
    WaitOutsideJobError,
)
from django_durable.models import Approval, Event, Job
from django_durable.testing import crash_after, run_jobs
from tests.builders import (
    HOUR,
    checkpoints_of,
    ended_job,
    error_of,
    redeployed,
    resumed_job,
    rewritten_job,
    rolled_back,
)
from tests.testapp.approvals import AccountForm, AmountForm, OwnReasonForm, asks, asks_with_form
from tests.testapp.models import Account, Charge

QUESTION = "Refund order 42?"


def question_of(job: Job) -> Approval:
    """The job's only question, as it stands."""
    return Approval.objects.judged().get(job_id=job.pk)


def charges() -> list[str]:
    return list(Charge.objects.order_by("pk").values_list("order_ref", flat=True))


class PeopleTestCase(TestCase):
    """Anna is in accounting, Ben holds a permission, Carl is nobody, Sue a superuser."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.accounting = Group.objects.create(name="accounting")
        cls.anna = User.objects.create_user("anna", first_name="Anna", last_name="Ash")
        cls.anna.groups.add(cls.accounting)
        cls.ben = User.objects.create_user("ben")
        cls.ben.user_permissions.add(Permission.objects.get(codename="change_account"))
        cls.carl = User.objects.create_user("carl")
        cls.sue = User.objects.create_superuser("sue")


class AskingTests(PeopleTestCase):
    def test_a_job_that_asks_waits_and_the_question_can_be_found(self) -> None:
        subject = Account.objects.create(name="a")
        job = ended_job(asks, subject=subject, deadline=HOUR)

        assert (job.state, job.wait_kind) == ("WAITING", "approval")
        assert job.wait_reason == f'waits for approval: "{QUESTION}"'
        row = question_of(job)
        assert (row.title, row.identity, row.state) == (QUESTION, "approval", "OPEN")
        assert (row.group_name, row.permission, row.form_path) == ("accounting", None, None)
        assert (row.subject_type, row.subject_key) == ("testapp.account", str(subject.pk))
        assert row.deadline_at == job.wait_deadline_at == row.requested_at + HOUR

    def test_without_a_deadline_it_waits_for_ever(self) -> None:
        job = ended_job(asks)
        assert question_of(job).deadline_at is None
        assert resumed_job(job, ahead=timedelta(days=1000)).state == "WAITING"

    def test_a_deadline_may_be_a_time(self) -> None:
        at = datetime(2098, 1, 1, tzinfo=UTC)
        job = ended_job(asks, deadline=at)
        assert question_of(job).deadline_at == job.due_at == at

    def test_a_replay_asks_only_once_and_keeps_the_words_and_the_deadline(self) -> None:
        job = ended_job(asks, deadline=HOUR)
        before = question_of(job)
        job = rewritten_job(job, state="READY", wait_kind=None, due_at=before.requested_at)
        redeployed(
            "testapp.asks", lambda **options: wait_for_approval("Other?", group="accounting")
        )

        job = resumed_job(job)

        after = question_of(job)
        assert (after.pk, after.title, after.deadline_at) == (
            before.pk,
            QUESTION,
            before.deadline_at,
        )
        assert job.due_at == before.deadline_at

    def test_the_second_question_of_a_job_is_another(self) -> None:
        @task(path="tests.two_questions")
        def two_questions() -> list[bool]:
            answers = [wait_for_approval(text, group="accounting") for text in ("One?", "Two?")]
            return [answer.approved for answer in answers if answer is not None]

        job = ended_job(two_questions)
        answer_approval(question_of(job), self.anna, approved=True)
        run_jobs()
        second = Approval.objects.get(job_id=job.pk, identity="approval#2")
        answer_approval(second, self.anna, approved=False)

        assert resumed_job(job).return_value == [True, False]

    def test_a_replay_about_another_subject_is_blocked(self) -> None:
        """So that an answer about one order never counts for another."""
        first, second = (Account.objects.create(name=name) for name in "ab")

        def asks_about(account: Account) -> bool:
            decision = wait_for_approval("Close it?", group="accounting", subject=account)
            sure = wait_for_approval("Sure?", group="accounting")
            return bool(decision and sure)

        job = ended_job(redeployed("tests.about", asks_about), first)
        answer_approval(question_of(job), self.anna, approved=True)
        job = resumed_job(job)
        redeployed("tests.about", lambda account: asks_about(second))
        answer_approval(Approval.objects.get(identity="approval#2"), self.anna, approved=True)

        job = resumed_job(job)
        assert (job.state, job.wait_kind) == ("WAITING", "blocked")
        assert f"testapp.account:{first.pk} (recorded)" in (job.wait_reason or "")

    def test_async_tasks_ask_too(self) -> None:
        @task(path="tests.asks_async")
        async def asks_async() -> bool:
            decision = await await_for_approval("Go?", permission="testapp.change_account")
            return decision is not None and decision.approved

        job = ended_job(asks_async)
        answer_approval(question_of(job), self.ben, approved=True)
        assert resumed_job(job).return_value is True


class AnswerTests(PeopleTestCase):
    def test_the_job_goes_on_with_the_decision(self) -> None:
        job = ended_job(asks)
        row = answer_approval(question_of(job), self.anna, approved=True)

        assert (row.state, row.answered_by_key) == ("APPROVED", str(self.anna.pk))
        assert row.closed_at == row.answered_at
        job.refresh()
        assert job.state == "READY"
        assert resumed_job(job).return_value == {
            "branch": "approved",
            "data": {},
            "by": "anna",
            "name": "Anna Ash",
            "at": row.answered_at,
        }
        assert charges() == ["approved"]

    def test_the_decision_is_replayed(self) -> None:
        job = ended_job(asks)
        answer_approval(question_of(job), self.anna, approved=True)
        with crash_after("approval"):
            run_jobs()
        Approval.objects.filter(job_id=job.pk).update(approved=False)
        Event.objects.all().delete()

        assert resumed_job(job).return_value["branch"] == "approved"
        assert charges() == ["approved"]

    def test_an_answer_outlives_its_event(self) -> None:
        """What a job was told is in the question's row; events are pruned earlier."""
        job = ended_job(asks)
        answer_approval(question_of(job), self.anna, approved=True)
        Event.objects.all().delete()
        assert resumed_job(job).return_value["branch"] == "approved"

    def test_what_was_filled_in_arrives_cleaned(self) -> None:
        job = ended_job(asks_with_form, "42")
        answer_approval(question_of(job), self.anna, approved=True, data={"amount": " 7"})
        assert resumed_job(job).return_value == {"amount": 7, "note": ""}

    def test_model_instances_travel_as_references(self) -> None:
        accounts = [Account.objects.create(name=name, balance=1) for name in "abc"]

        @task(path="tests.asks_for_account")
        def asks_for_account() -> Any:
            decision = wait_for_approval("Which?", form=AccountForm, group="accounting")
            return decision.data if decision else None

        job = ended_job(asks_for_account)
        answer_approval(
            question_of(job),
            self.anna,
            approved=True,
            data={"account": accounts[0].pk, "others": [a.pk for a in accounts[1:]]},
        )
        Account.objects.update(balance=2)

        data = resumed_job(job).return_value
        assert data["account"] == accounts[0]
        assert [account.balance for account in (data["account"], *data["others"])] == [2, 2, 2]
        assert data["others"] == accounts[1:]

    def test_a_rejection_needs_no_data_and_keeps_a_reason(self) -> None:
        job, other = ended_job(asks_with_form, "1"), ended_job(asks_with_form, "2")
        answer_approval(question_of(job), self.anna, approved=False)
        data = {"reason": " Too late. ", "amount": "many"}
        answer_approval(question_of(other), self.anna, approved=False, data=data)

        assert resumed_job(job).return_value == {}
        other.refresh()
        assert other.return_value == {"reason": "Too late."}

    def test_an_approval_without_a_form_may_have_a_reason_too(self) -> None:
        job = ended_job(asks)
        answer_approval(question_of(job), self.anna, approved=True, data={"reason": "Fine."})
        assert resumed_job(job).return_value["data"] == {"reason": "Fine."}

    def test_a_user_who_is_gone_leaves_the_name(self) -> None:
        job = ended_job(asks)
        answer_approval(question_of(job), self.anna, approved=True)
        self.anna.delete()
        returned = resumed_job(job).return_value
        assert (returned["by"], returned["name"]) == (None, "Anna Ash")

    def test_it_is_part_of_the_callers_transaction(self) -> None:
        job = ended_job(asks)
        with rolled_back():
            answer_approval(question_of(job), self.anna, approved=True)

        assert question_of(job).state == "OPEN"
        assert resumed_job(job).state == "WAITING"

    def test_a_wake_up_is_only_a_hint(self) -> None:
        """Nobody answered: whoever wakes the job, it waits on."""
        job = ended_job(asks)
        key = store.event_key(job.pk, "approval")
        with pytest.raises(InvalidOptionError, match="the engine's own"):
            emit_event(key)
        rewritten_job(job, state="READY", wait_kind=None, due_at=job.enqueued_at)
        assert resumed_job(job).state == "WAITING"


class ClosedTests(PeopleTestCase):
    def refused(self, row: Approval) -> str:
        with pytest.raises(ApprovalClosedError) as caught:
            answer_approval(row, self.sue, approved=True)
        return str(caught.value)

    def test_a_second_answer_is_told_of_the_first(self) -> None:
        job = ended_job(asks)
        row = answer_approval(question_of(job), self.anna, approved=False)

        said = self.refused(row)

        when = f"{row.answered_at:%Y-%m-%d %H:%M:%S} UTC"
        assert said == f'"{QUESTION}" is not open any more: it was rejected by Anna Ash at {when}.'
        assert resumed_job(job).return_value["branch"] == "rejected"

    def test_a_wait_that_timed_out(self) -> None:
        job = ended_job(asks, deadline=HOUR)
        assert resumed_job(job, ahead=HOUR).return_value == {"branch": "timed out"}

        row = question_of(job)
        assert (row.state, row.approved) == ("TIMED_OUT", None)
        assert row.closed_at is not None
        assert "it timed out at" in self.refused(row)

    def test_a_deadline_that_passed_while_no_worker_lived(self) -> None:
        """Nobody is told "accepted" after the deadline, whether a worker was there to see it."""
        job = ended_job(asks, deadline=HOUR)
        Approval.objects.update(deadline_at=job.enqueued_at)

        assert "it timed out at" in self.refused(question_of(job))
        assert list(open_approvals(self.sue)) == []

    def test_an_answer_in_time_counts_though_the_job_sees_it_later(self) -> None:
        job = ended_job(asks, deadline=HOUR)
        answer_approval(question_of(job), self.anna, approved=True)
        assert resumed_job(job, ahead=2 * HOUR).return_value["branch"] == "approved"

    def test_a_past_deadline_is_a_timeout_at_once(self) -> None:
        job = ended_job(asks, deadline=datetime(2001, 1, 1, tzinfo=UTC))
        assert job.return_value == {"branch": "timed out"}
        assert question_of(job).closed_at is not None

    def test_the_timeout_replays(self) -> None:
        job = ended_job(asks, deadline=HOUR)
        with crash_after("approval"):
            run_jobs(ahead=HOUR)
        Approval.objects.update(deadline_at=None, closed_at=None)
        assert resumed_job(job).return_value == {"branch": "timed out"}
        assert charges() == ["timed out"]

    def test_a_job_that_was_cancelled(self) -> None:
        job = ended_job(asks)
        cancel_job(job)

        row = question_of(job)
        assert row.state == "WITHDRAWN"
        assert self.refused(row).endswith("its job was cancelled.")

    def test_jobs_that_ended_otherwise(self) -> None:
        job = ended_job(asks)
        for state, said in (("FAILED", "its job failed."), ("SUCCESSFUL", "went on without it.")):
            rewritten_job(job, state=state, wait_kind=None, finished_at=job.enqueued_at)
            assert self.refused(question_of(job)).endswith(said)

    def test_a_job_that_is_gone(self) -> None:
        job = ended_job(asks)
        row = question_of(job)
        Job.objects.filter(pk=job.pk).delete()
        assert self.refused(row).endswith("its job is gone.")

    def test_being_refused_marks_it_closed(self) -> None:
        job = ended_job(asks)
        cancel_job(job)
        row = question_of(job)
        assert store.close_some("default", limit=10) == 1
        assert store.close_some("default", limit=10) == 0
        row.refresh_from_db()
        job.refresh()
        assert row.closed_at == job.finished_at

    def test_a_question_that_is_open_stays_so(self) -> None:
        job = ended_job(asks)
        assert store.close_some("default", limit=10) == 0
        assert question_of(job).closed_at is None

    def test_a_retried_job_asks_again_under_the_same_question(self) -> None:
        job = ended_job(asks)
        cancel_job(job)
        store.close_some("default", limit=10)
        retry_job(job)

        job = resumed_job(job)

        row = question_of(job)
        assert (row.state, row.closed_at) == ("OPEN", None)
        answer_approval(row, self.anna, approved=True)
        assert resumed_job(job).return_value["branch"] == "approved"

    def test_one_of_several_branches_that_was_outrun(self) -> None:
        @task(path="tests.races")
        def races() -> int:
            first(lambda: 1, lambda: 2)
            winner = first(
                lambda: wait_for_approval("Go?", group="accounting"),
                lambda: gather(
                    lambda: wait_for_approval("Go, too?", group="accounting"),
                    lambda: wait_for_approval("Sure?", group="accounting"),
                ),
            )
            wait_for_approval("Afterwards?", group="accounting")
            return winner.index

        job = ended_job(races)
        questions = {row.title: row for row in Approval.objects.judged()}
        assert {row.state for row in questions.values()} == {"OPEN"}
        answer_approval(questions["Sure?"], self.anna, approved=True)
        answer_approval(questions["Go?"], self.anna, approved=True)
        run_jobs()

        states = {row.title: row.state for row in Approval.objects.judged()}
        assert states == {
            "Go?": "APPROVED",
            "Go, too?": "WITHDRAWN",
            "Sure?": "APPROVED",
            "Afterwards?": "OPEN",
        }
        assert self.refused(questions["Go, too?"]).endswith("its job went on without it.")
        assert store.close_some("default", limit=10) == 1
        answer_approval(Approval.objects.get(title="Afterwards?"), self.anna, approved=True)
        assert resumed_job(job).return_value == 0

    def test_a_life_of_the_job_that_is_over(self) -> None:
        @task(path="tests.lives")
        def lives(count: int = 0) -> None:
            first(
                lambda: wait_for_approval(f"In life {count}?", group="accounting"),
                lambda: wait_for_approval(f"And {count}?", group="accounting"),
            )
            continue_as(count + 1)

        ended_job(lives)
        answer_approval(Approval.objects.get(title="And 0?"), self.anna, approved=True)
        run_jobs()

        states = {row.title: row.state for row in Approval.objects.judged()}
        assert states == {
            "In life 0?": "WITHDRAWN",
            "And 0?": "APPROVED",
            "In life 1?": "OPEN",
            "And 1?": "OPEN",
        }
        assert store.close_some("default", limit=10) == 1
        assert len(open_approvals(self.anna)) == 2

    def test_unknown_questions(self) -> None:
        for key in (0, "12", "x", None):
            with pytest.raises(ApprovalNotFoundError):
                answer_approval(key, self.sue, approved=True)  # type: ignore[arg-type]


class RightsTests(PeopleTestCase):
    def may(self, user: Any, job: Job) -> bool:
        """Whether a user may answer; the same as whether it is in the list."""
        row = question_of(job)
        is_listed = row in open_approvals(user)
        try:
            with transaction.atomic():
                answer_approval(row, user, approved=True)
                transaction.set_rollback(True)
        except PermissionDenied:
            assert not is_listed
            return False
        assert is_listed
        return True

    def test_members_of_the_group_may(self) -> None:
        job = ended_job(asks)
        assert [self.may(u, job) for u in (self.anna, self.ben, self.carl)] == [True, False, False]

    def test_holders_of_the_permission_may(self) -> None:
        job = ended_job(asks, group=None, permission="testapp.change_account")
        assert [self.may(u, job) for u in (self.anna, self.ben, self.carl)] == [False, True, False]

    def test_superusers_and_those_who_may_answer_all_may(self) -> None:
        self.carl.user_permissions.add(Permission.objects.get(codename="answer_approval"))
        job = ended_job(asks)
        assert self.may(self.sue, job)
        assert self.may(User.objects.get(username="carl"), job)

    def test_inactive_users_never_may(self) -> None:
        User.objects.update(is_active=False)
        by_group = ended_job(asks)
        by_permission = ended_job(asks, group=None, permission="testapp.change_account")
        for name in ("anna", "ben", "sue"):
            user = User.objects.get(username=name)
            assert not self.may(user, by_group)
            assert not self.may(user, by_permission)

    def test_a_refusal_says_what_it_takes(self) -> None:
        with pytest.raises(ApprovalDeniedError) as caught:
            answer_approval(question_of(ended_job(asks)), self.carl, approved=True)
        assert str(caught.value) == (
            f'User carl may not answer "{QUESTION}": that takes membership in group accounting.'
        )
        assert question_of(Job.objects.get()).state == "OPEN"

    def test_only_open_ones_are_listed_the_oldest_first(self) -> None:
        jobs = [ended_job(asks, title=text) for text in ("One?", "Two?", "Three?")]
        cancel_job(jobs[1])
        with self.assertNumQueries(
            5
        ):  # the user's permissions (2), groups; those asked for; the list
            listed = [row.title for row in open_approvals(self.anna)]
        assert listed == ["One?", "Three?"]


class FormTests(PeopleTestCase):
    def refused(self, form: type[forms.BaseForm], **data: Any) -> ApprovalFormError:
        @task(path="tests.asks_with")
        def asks_with() -> None:
            wait_for_approval("Go?", form=form, group="accounting")

        job = ended_job(asks_with)
        with pytest.raises(ApprovalFormError) as caught:
            answer_approval(question_of(job), self.anna, approved=True, data=data)
        assert question_of(job).state == "OPEN"
        return caught.value

    def test_data_that_does_not_satisfy_it_is_refused(self) -> None:
        error = self.refused(AmountForm, amount="0")
        assert error.errors == {"amount": ["Ensure this value is greater than or equal to 1."]}
        assert error.form.data == {"amount": "0"}
        assert str(error) == (
            'The answer to "Go?" does not satisfy its form: '
            "amount: Ensure this value is greater than or equal to 1."
        )

    def test_no_data_at_all_is_an_empty_form(self) -> None:
        assert "amount" in self.refused(AmountForm).errors

    def test_what_cannot_be_stored_is_an_error_of_the_form(self) -> None:
        assert "cannot be stored" in self.refused(StrangeForm, thing="x").errors["__all__"][0]

    def test_a_reason_may_be_too_long(self) -> None:
        job = ended_job(asks)
        with pytest.raises(ApprovalFormError, match="at most 2000 characters"):
            answer_approval(
                question_of(job), self.anna, approved=False, data={"reason": "x" * 2001}
            )

    def test_a_class_that_is_not_loaded_here_is_not_imported(self) -> None:
        job = ended_job(asks_with_form, "42")
        Approval.objects.update(form_path="os.path.join")

        with pytest.raises(UnknownFormError, match=r"form os\.path\.join is not loaded"):
            answer_approval(question_of(job), self.anna, approved=True, data={"amount": 1})

        answer_approval(question_of(job), self.anna, approved=False)
        assert resumed_job(job).return_value == {}


class StrangeForm(forms.Form):
    thing = forms.CharField()

    def clean_thing(self) -> object:
        return object()


class BadInputTests(PeopleTestCase):
    def refused(self, title: Any = QUESTION, **options: Any) -> str:
        """How a task fails that asks so; nothing is written, and mended code goes on."""
        options = {"group": "accounting"} | options
        job = ended_job(redeployed("tests.asks_badly", lambda: wait_for_approval(title, **options)))
        error = error_of(job)
        assert job.state == "FAILED"
        assert error["type"].endswith(".ApprovalRequestError"), error
        assert not Approval.objects.exists()
        redeployed("tests.asks_badly", lambda: wait_for_approval("Go?", group="accounting"))
        retry_job(job)
        assert resumed_job(job).state == "WAITING"
        Job.objects.all().delete()
        Approval.objects.all().delete()
        return str(error["message"])

    def test_who_may_answer_is_said_once(self) -> None:
        for options in ({"group": None}, {"permission": "testapp.change_account"}):
            assert "Give one of group= and permission=" in self.refused(**options)

    def test_a_group_or_permission_that_is_not_there(self) -> None:
        assert "there is no such group" in self.refused(group="acounting")
        said = self.refused(group=None, permission="testapp.chnge_account")
        assert "there is no such permission" in said

    @override_settings(
        AUTHENTICATION_BACKENDS=[
            "django.contrib.auth.backends.ModelBackend",
            "tests.test_approvals.OwnBackend",
        ]
    )
    def test_backends_of_the_project_may_know_more_permissions(self) -> None:
        job = ended_job(asks, group=None, permission="shop.may.anything")
        assert job.state == "WAITING"
        assert list(open_approvals(self.carl)) == [question_of(job)]

    def test_groups_and_permissions_of_other_shapes(self) -> None:
        for options in ({"group": " "}, {"group": 5}, {"group": "\x00"}):
            assert "a Group, or the name of one" in self.refused(**options)
        for permission in ("approve", ".approve", "shop.", 5, " "):
            said = self.refused(group=None, permission=permission)
            assert 'must look like "app_label.codename"' in said

    def test_titles(self) -> None:
        for title in (None, 5, "", " \n"):
            assert "must be the question" in self.refused(title)
        for title in ("One?\nTwo?", "x" * 201):
            assert "one line of 200 characters at most" in self.refused(title)
        assert "NUL" in self.refused("a\x00b")

    def test_deadlines(self) -> None:
        naive = datetime(2030, 1, 1)  # noqa: DTZ001 (naive on purpose)
        assert "it is naive" in self.refused(deadline=naive)
        for deadline in (-HOUR, timedelta(0), timedelta.max):
            assert "must be positive" in self.refused(deadline=deadline)
        for thing in (5, "tomorrow", True):
            assert "a timedelta, or an aware datetime" in self.refused(deadline=thing)

    def test_subjects(self) -> None:
        assert "is not saved" in self.refused(subject=Account(name="new"))
        assert "must be a model instance" in self.refused(subject="account 5")

    def test_forms(self) -> None:
        class LocalForm(forms.Form):
            pass

        class FileForm(forms.Form):
            scan = forms.ImageField()

        class DemandingForm(forms.Form):
            def __init__(self, order: Any, data: Any = None) -> None: ...

        for cls in (FileForm, DemandingForm):
            cls.__qualname__ = cls.__name__
        for thing in (AmountForm(), "shop.forms.AmountForm", forms.formset_factory(AmountForm)):
            assert "must be a Form class" in self.refused(form=thing)
        assert "must stand at the top of a module" in self.refused(form=LocalForm)
        assert "its field 'scan' takes a file" in self.refused(form=FileForm)
        assert "wants more than the data" in self.refused(form=DemandingForm)

    def test_where_nothing_can_wait(self) -> None:
        with pytest.raises(WaitOutsideJobError):
            wait_for_approval("Go?", group="accounting")
        asking = step(name="asking")(lambda: wait_for_approval("Go?", group="accounting"))
        job = ended_job(redeployed("tests.asks_in_step", lambda: asking()))
        assert WaitInStepError.__name__ in error_of(job)["message"]

        def in_transaction() -> None:
            with transaction.atomic():
                wait_for_approval("Go?", group="accounting")

        job = ended_job(redeployed("tests.asks_in_transaction", in_transaction))
        assert StepInTransactionError.__name__ in error_of(job)["type"]
        assert not Approval.objects.exists()

    def test_lazy_titles_and_groups_as_objects_are_fine(self) -> None:
        job = ended_job(
            redeployed(
                "tests.asks_lazily",
                lambda: wait_for_approval(lazystr("Go?"), group=self.accounting),
            )
        )
        row = question_of(job)
        assert (row.title, row.group_name) == ("Go?", "accounting")

    def test_an_open_question_outlives_its_group(self) -> None:
        job = ended_job(asks, deadline=HOUR)
        Group.objects.all().delete()
        assert resumed_job(job, ahead=HOUR).return_value == {"branch": "timed out"}

    def test_the_reason_field_of_a_form_is_its_own(self) -> None:
        @task(path="tests.asks_for_reason")
        def asks_for_reason() -> Any:
            decision = wait_for_approval("Go?", form=OwnReasonForm, group="accounting")
            return decision and decision.data

        job, other = ended_job(asks_for_reason), ended_job(asks_for_reason)
        for asked, approved in ((job, True), (other, False)):
            with pytest.raises(ApprovalFormError):
                answer_approval(
                    question_of(job), self.anna, approved=True, data={"reason": "longer"}
                )
            data = {"reason": "short"}
            answer_approval(question_of(asked), self.anna, approved=approved, data=data)
            break
        answer_approval(question_of(other), self.anna, approved=False, data={"reason": "longer"})
        assert resumed_job(job).return_value == {"reason": "short"}
        other.refresh()
        assert other.return_value == {"reason": "longer"}


class OwnBackend:
    """A backend whose permissions have no rows."""

    def get_user(self, user_id: int) -> None:
        return None

    def has_perm(self, user: Any, permission: str, obj: Any = None) -> bool:
        return permission == "shop.may.anything"


class StoredTests(PeopleTestCase):
    def test_the_checkpoint_is_readable_by_people(self) -> None:
        job = ended_job(asks_with_form, "42")
        answer_approval(question_of(job), self.anna, approved=True, data={"amount": 7})
        run_jobs()
        row = checkpoints_of(job)["approval"]
        assert (row.kind, row.state) == ("approval", "SUCCESSFUL")
        value = json.loads(row.value)
        assert value["approved"] is True
        assert value["data"] == {"amount": 7, "note": ""}
        assert value["answered_by_name"] == "Anna Ash"

    def test_pruning_a_job_takes_its_questions(self) -> None:
        job = ended_job(asks)
        cancel_job(job)
        rewritten_job(job, finished_at=job.enqueued_at - timedelta(days=9))
        prune_jobs(connection, Rule("CANCELLED", timedelta(days=7)), limit=10)
        assert not Approval.objects.exists()


def test_requests_are_value_errors() -> None:
    assert issubclass(ApprovalRequestError, ValueError)
