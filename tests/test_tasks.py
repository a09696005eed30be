"""Tasks: how they are declared, changed, called, and what is refused."""

import dataclasses
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from django_durable import RetryPolicy, Task, enqueue, get_job, step, task
from django_durable.engine import registry
from django_durable.exceptions import (
    DuplicateTaskPathError,
    InvalidArgumentsError,
    InvalidOptionError,
    JobNotFoundError,
    NotSerializableError,
    TaskDefinitionError,
    UnknownTaskError,
)
from django_durable.tasks import TaskContext
from tests.builders import ended_job, resumed_job, rewritten_job
from tests.testapp.models import Account
from tests.testapp.tasks import fulfil

SOON = datetime(2099, 1, 1, tzinfo=UTC)


@task
def greet(name: str, *, loudly: bool = False) -> str:
    """Say hello."""
    return f"Hello {name}{'!' if loudly else ''}"


@task(queue_name="mail", priority=-5, retry=RetryPolicy(max_attempts=2))
async def greet_later(name: str) -> str:
    return f"Later {name}"


@task(takes_context=True)
def tell_attempt(context: TaskContext, name: str) -> str:
    return f"{name} {context.attempt} {context.task_result.task_path}"


@step
def print_label() -> None: ...


@task(path="charging")
def charge(account: Account) -> str:
    return account.name


@task(path="charging-or-not", on_missing="skip", retry=RetryPolicy(max_attempts=5))
def charge_if_there(account: Account) -> str:
    return account.name


class DeclarationTests:
    def test_the_bare_decorator_takes_every_default(self) -> None:
        assert isinstance(greet, Task)
        assert greet.name == "greet"
        assert greet.path == greet.module_path == "tests.test_tasks.greet"
        assert (greet.queue_name, greet.priority, greet.backend) == ("default", 0, "default")
        assert (greet.run_after, greet.retry, greet.atomic) == (None, None, False)
        assert not greet.is_async

    def test_the_called_decorator_takes_options(self) -> None:
        assert (greet_later.queue_name, greet_later.priority) == ("mail", -5)
        assert greet_later.retry == RetryPolicy(max_attempts=2)
        assert greet_later.is_async

    def test_a_task_cannot_be_changed(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            greet.priority = 5  # type: ignore[misc]  # that is the point

    def test_a_function_in_a_function_needs_a_path(self) -> None:
        with pytest.raises(TaskDefinitionError, match=r"not at the top of a module.*task\(path="):

            @task
            def inner() -> None: ...

    def test_a_method_needs_a_path(self) -> None:
        with pytest.raises(TaskDefinitionError, match="not at the top of a module"):

            class Sender:
                @task
                def send(self) -> None: ...

    @pytest.mark.parametrize("thing", [5, "name", len, Account, print_label])
    def test_only_a_function_becomes_a_task(self, thing: Any) -> None:
        with pytest.raises(TaskDefinitionError, match="a task is made from a function"):
            task(thing)

    def test_a_task_does_not_become_one_again(self) -> None:
        with pytest.raises(TaskDefinitionError):
            task(path="twice")(greet)

    @pytest.mark.parametrize("path", ["", "  ", "a/b", "a#b", "a[b]", "a\x00", 5])
    def test_a_path_is_a_name(self, path: Any) -> None:
        with pytest.raises(TaskDefinitionError, match="a task name must not"):
            task(path=path)(lambda: None)
        with pytest.raises(TaskDefinitionError, match="a task name must not"):
            task(path="fine", aliases=(path,))(lambda: None)

    def test_an_async_function_cannot_be_atomic(self) -> None:
        with pytest.raises(TaskDefinitionError, match="Django has no asynchronous transactions"):

            @task(path="never", atomic=True)
            async def never() -> None: ...

        assert registry.find_task("never") is None


class DuplicatePathTests:
    def twins(self) -> tuple[Task[..., Any], Task[..., Any]]:
        @task(path="twin")
        def first() -> None: ...

        @task(path="twin")
        def second() -> None: ...

        return first, second

    @pytest.mark.django_db
    def test_neither_of_two_tasks_of_one_path_is_enqueued(self) -> None:
        for twin in self.twins():
            with pytest.raises(DuplicateTaskPathError, match='"twin" is declared by both'):
                twin.enqueue()

    def test_neither_is_run(self) -> None:
        self.twins()

        assert "twin" not in registry.known_paths()

    def test_an_alias_counts_as_a_path(self) -> None:
        first, _ = self.twins()
        third = task(path="third", aliases=("twin",))(lambda: None)

        assert {conflict.path for conflict in registry.get_conflicts()} == {first.path}
        assert registry.get_task("third") is third


OPTIONS: list[tuple[str, Any, str]] = [
    ("priority", 101, "an integer from -100 to 100"),
    ("priority", -101, "an integer from -100 to 100"),
    ("priority", 1.5, "an integer from -100 to 100"),
    ("priority", True, "an integer from -100 to 100"),
    ("queue_name", "", "a queue name has 1 to 100"),
    ("queue_name", " ", "a queue name has 1 to 100"),
    ("queue_name", "a b", "a queue name has 1 to 100"),
    ("queue_name", "a\n", "a queue name has 1 to 100"),
    ("queue_name", "x" * 101, "a queue name has 1 to 100"),
    ("queue_name", None, "a queue name has 1 to 100"),
    ("retry", 3, "a RetryPolicy"),
    ("on_missing", "ignore", '"fail" or "skip"'),
]
CALL_OPTIONS: list[tuple[str, Any, str]] = [
    ("run_after", datetime(2099, 1, 1), "it is naive; use django.utils.timezone.now()"),  # noqa: DTZ001
    ("run_after", timedelta(1), "for a time from now use delay"),
    ("delay", timedelta(-1), "a timedelta that is not negative"),
    ("delay", 5, "a timedelta that is not negative"),
    ("idempotency_key", "", "must not be empty or blank"),
    ("idempotency_key", " \t", "must not be empty or blank"),
    ("idempotency_key", "a\x00b", "NUL"),
    ("idempotency_key", 5, "must be text"),
    ("idempotency_key", "k" * 501, "more than 500 characters"),
    ("idempotency_retention", timedelta(0), "a positive timedelta"),
    ("idempotency_retention", None, "a positive timedelta"),
    ("outside_transaction", "yes", "True or False"),
    ("path", "other", "there is no such option here"),
    ("func", len, "there is no such option here"),
    ("takes_context", True, "there is no such option here"),
    ("atomic", True, "there is no such option here"),
    ("prioritty", 5, "there is no such option here; known: deadline, delay, idempotency_key"),
]


class OptionTests:
    @pytest.mark.parametrize(("option", "value", "reason"), [*OPTIONS, *CALL_OPTIONS])
    def test_using_refuses_a_bad_option_with_the_reason(
        self, option: str, value: Any, reason: str
    ) -> None:
        with pytest.raises(InvalidOptionError) as caught:
            greet.using(**{option: value})

        assert caught.value.option == option
        assert reason in str(caught.value)

    @pytest.mark.parametrize(
        ("option", "value"),
        [*((option, value) for option, value, _ in OPTIONS), ("queue", "a"), ("atomic", 1)],
    )
    def test_the_decorator_refuses_it_too_and_registers_nothing(
        self, option: str, value: Any
    ) -> None:
        declare: Callable[..., Any] = task

        with pytest.raises(InvalidOptionError):
            declare(path="refused", **{option: value})(lambda: None)

        assert registry.find_task("refused") is None

    def test_using_makes_another_task_and_leaves_the_first(self) -> None:
        urgent = greet.using(priority=100, queue_name="fast")

        assert (urgent.priority, urgent.queue_name) == (100, "fast")
        assert (greet.priority, greet.queue_name) == (0, "default")
        assert registry.get_task(greet.path) is greet

    def test_the_later_of_delay_and_run_after_replaces_the_other(self) -> None:
        delayed = greet.using(run_after=SOON).using(delay=timedelta(1))
        dated = greet.using(delay=timedelta(1)).using(run_after=SOON)

        assert (delayed.delay, delayed.run_after) == (timedelta(1), None)
        assert (dated.delay, dated.run_after) == (None, SOON)

    def test_options_can_be_taken_back(self) -> None:
        plain = greet.using(idempotency_key="k", run_after=SOON).using(
            idempotency_key=None, run_after=None
        )

        assert (plain.idempotency_key, plain.run_after) == (None, None)


class CallTests:
    def test_a_task_is_not_callable(self) -> None:
        with pytest.raises(TypeError, match=r"\.call\(\) runs it here and now, \.enqueue\(\)"):
            greet("Ada")

    def test_call_runs_the_function_without_a_job(self) -> None:
        assert greet.call("Ada", loudly=True) == "Hello Ada!"
        assert greet_later.call("Ada") == "Later Ada"

    async def _both(self) -> list[str]:
        return [await greet.acall("Ada"), await greet_later.acall("Ada")]

    def test_acall_awaits_either_kind(self) -> None:
        both = task(path="both")(self._both.__func__)  # type: ignore[attr-defined]  # a function

        assert both.call(self) == ["Hello Ada", "Later Ada"]

    @pytest.mark.django_db
    def test_the_steps_of_a_called_task_are_plain_calls(self) -> None:
        assert fulfil.call("o1", amount=3) == "o1 paid 3"


@pytest.mark.django_db
class ArgumentTests:
    @pytest.mark.parametrize(
        ("args", "kwargs", "reason"),
        [
            ((), {}, "missing a required argument: 'name'"),
            (("a", "b"), {}, "too many positional arguments"),
            (("a",), {"quietly": True}, "unexpected keyword argument 'quietly'"),
            (("a",), {"name": "b"}, "multiple values for argument 'name'"),
        ],
    )
    def test_arguments_that_do_not_fit_are_refused_in_the_caller(
        self, args: Any, kwargs: Any, reason: str
    ) -> None:
        submit: Callable[..., Any] = enqueue

        with pytest.raises(InvalidArgumentsError, match=reason):
            submit(greet, *args, **kwargs)

    def test_the_context_is_given_by_the_engine_not_by_the_caller(self) -> None:
        job = ended_job(tell_attempt, "try")

        assert job.return_value == "try 1 tests.test_tasks.tell_attempt"
        with pytest.raises(InvalidArgumentsError, match="too many positional arguments"):
            ended_job(tell_attempt, "context", "name")

    def test_a_refused_value_is_named_by_its_parameter(self) -> None:
        with pytest.raises(NotSerializableError) as caught:
            ended_job(tell_attempt, {"lines": [1, float("nan")]})

        assert caught.value.path == "name['lines'][1]"

    def test_parameters_are_named_without_the_context(self) -> None:
        assert tell_attempt.signature.names == ("name",)
        assert tell_attempt.bind_arguments(("a",), {}) == (("a",), {})
        assert greet.bind_arguments(("a",), {"loudly": True}) == (("a",), {"loudly": True})


@pytest.mark.django_db
class ModelArgumentTests:
    def test_an_instance_is_fetched_fresh_when_the_body_begins(self) -> None:
        account = Account.objects.create(name="old")
        job = charge.enqueue(account)
        Account.objects.update(name="new")

        assert charge.call(account) == "old"
        assert get_job(job.pk).args == [Account.objects.get()]
        assert ended_job(charge, account).return_value == "new"

    def test_instances_of_one_model_are_fetched_by_one_query(
        self, django_assert_num_queries: Callable[[int], Any]
    ) -> None:
        gather = task(path="gather")(lambda accounts, chief: None)
        accounts = [Account.objects.create(name=str(n)) for n in range(20)]
        job = get_job(gather.enqueue(accounts, accounts[3]).pk)

        with django_assert_num_queries(1):
            fetched = job.args

        assert fetched == [accounts, accounts[3]]

    def test_a_missing_instance_fails_the_job_by_default(self) -> None:
        account = Account.objects.create(name="a")
        job = charge.enqueue(account)
        key = account.pk
        account.delete()

        job = resumed_job(job)

        assert job.state == "FAILED"
        assert f"testapp.account {key} does not exist (any more)" in job.errors[0].message

    def test_a_missing_instance_skips_the_job_if_the_task_says_so(self) -> None:
        account = Account.objects.create(name="a")
        job = charge_if_there.enqueue(account)
        account.delete()

        job = resumed_job(job)

        assert (job.state, job.attempt) == ("CANCELLED", 1)
        assert "does not exist (any more)" in job.errors[0].message


@pytest.mark.django_db
class ResultTests:
    def test_get_result_finds_jobs_of_this_task_only(self) -> None:
        job = greet.enqueue("Ada")

        assert greet.get_result(str(job.pk)) == job
        with pytest.raises(JobNotFoundError):
            greet_later.get_result(job.pk)
        with pytest.raises(JobNotFoundError):
            greet.get_result(uuid4())

    def test_a_job_under_a_former_path_is_run_and_found(self) -> None:
        job = greet.enqueue("Ada")
        moved = task(path="hello", aliases=("tests.old.greet",))(inspect.unwrap(greet.func))
        job = rewritten_job(job, task_path="tests.old.greet")

        assert job.task is moved
        assert moved.get_result(job.pk) == job
        ended_job(moved, "Bob")
        job.refresh()
        assert job.return_value == "Hello Ada"

    def test_a_path_is_looked_up_never_imported(self) -> None:
        job = rewritten_job(greet.enqueue("Ada"), task_path="tests.test_task.greet")

        ended_job(greet, "Bob")
        job.refresh()

        assert job.state == "READY"
        with pytest.raises(UnknownTaskError, match=r"Nearest known: .*tests\.test_tasks\.greet"):
            _ = job.task
