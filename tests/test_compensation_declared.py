"""What can undo what: checked when it is declared, and when it is called."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection

from django_durable import (
    step,
    task,
)
from django_durable.engine import compensations
from django_durable.exceptions import (
    NestedStepError,
    StepValueError,
    TaskDefinitionError,
)
from tests.builders import (
    checkpoints_of,
    ended_job,
)
from tests.undoing import (
    charge,
    forget,
    letter,
    pays,
    refund,
    told,
    unpack,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    yield
    forget()


def local_refund(ref: str) -> None: ...


def with_result(ref: str, result: int) -> None: ...


def other_names(reference: str) -> None: ...


def other_name(ref: str, money: int) -> None: ...


def other_order(amount: int, ref: str) -> None: ...


def less(ref: str) -> None: ...


def more(ref: str, amount: int, why: str) -> None: ...


def by_position(ref: str, amount: int, /) -> None: ...


def result_first(result: int, ref: str, amount: int) -> None: ...


class Desk:
    def refund(self, ref: str) -> None: ...


class DeclarationTests:
    @pytest.mark.parametrize(
        ("compensate", "says"),
        [
            ("refund", "compensate must be a function, or a step."),
            (pays, "it must be a function of a module, under a name"),
            (lambda ref, amount: None, "it must be a function of a module, under a name"),
            (Desk().refund, "it must be a function of a module, under a name"),
            (partial(refund), "it must be a function of a module, under a name"),
            (other_names, "too many positional arguments"),
            (other_name, "it would get amount as money"),
            (other_order, "it would get ref as amount"),
            (less, "too many positional arguments"),
            (more, "missing a required argument: 'why'"),
            (by_position, "by_position: "),
            (result_first, "multiple values for argument 'result'"),
        ],
    )
    def test_what_cannot_undo_the_step_is_refused(self, compensate: Any, says: str) -> None:
        with pytest.raises(TaskDefinitionError) as caught:

            @step(compensate=compensate)
            def two(ref: str, amount: int) -> None: ...

        assert says in str(caught.value)
        assert str(caught.value).startswith('Task or step "two" cannot be declared: ')

    def test_a_local_function_is_refused(self) -> None:
        def local_refund(ref: str) -> None: ...

        with pytest.raises(TaskDefinitionError, match="under a name"):
            step(compensate=local_refund)(lambda ref: None)

    @pytest.mark.parametrize(
        "parameters", ["ref, amount=1", "ref, /", "*, ref", "ref, *rest, **more", ""]
    )
    def test_anything_can_be_undone_by_what_takes_anything(self, parameters: str) -> None:
        function = eval(f"lambda {parameters}: None")

        assert step(compensate=unpack)(function).rule.compensation.path == "tests.undoing.unpack"

    @pytest.mark.parametrize("parameters", ["ref, result", "result, ref"])
    def test_a_parameter_result_of_the_steps_own_is_refused(self, parameters: str) -> None:
        with pytest.raises(TaskDefinitionError, match="both take result"):
            step(compensate=with_result)(eval(f"lambda {parameters}: None"))

    def test_two_functions_of_one_name_are_refused(self) -> None:
        first = {"__name__": "twice"}
        exec("def refund(ref): ...", first)
        step(name="one", compensate=first["refund"])(charge.rule.func)
        second = {"__name__": "twice"}
        exec("\ndef refund(ref): ...", second)

        with pytest.raises(TaskDefinitionError, match="another function of that name"):
            step(name="two", compensate=second["refund"])(letter.rule.func)

    def test_a_module_may_be_loaded_again(self) -> None:
        one = "def undo(): ...\n@step(compensate=undo)\ndef one(): ...\n"
        two = "@step(compensate=undo)\ndef two(): ...\n"
        for code in (one + two, one + two, one):
            module: dict[str, Any] = {"__name__": "loaded", "step": step}
            exec(code, module)

        found = compensations.find('{"path":"loaded.undo","step":"loaded.two"}')
        assert found is not None
        assert found.step.rule.func is module["undo"]

    def test_arguments_that_cannot_be_kept_are_refused_before_the_body(self) -> None:
        caught: list[StepValueError] = []

        def charge_connection() -> None:
            try:
                charge(connection)
            except StepValueError as error:
                caught.append(error)

        job = ended_job(task(path="failing")(charge_connection))

        assert (job.state, told, checkpoints_of(job)) == ("SUCCESSFUL", [], {})
        assert str(caught[0]).startswith(
            'What step "charge" is called with, to be undone by tests.undoing.refund, cannot be '
            "kept: ref cannot be stored: "
        )

    def test_inside_another_step_it_is_refused(self) -> None:
        @step
        def outer() -> None:
            with pytest.raises(NestedStepError, match="is compensated and was called inside"):
                charge("a")

        assert ended_job(task(path="nesting")(lambda: outer())).state == "SUCCESSFUL"

    def test_outside_jobs_nothing_is_undone(self) -> None:
        assert charge("a") == "charge a"
        assert told == ["charge a"]

    def test_no_step_is_called_as_compensations_are(self) -> None:
        with pytest.raises(TaskDefinitionError, match="must not begin with compensation@"):
            step(name="compensation@1")(lambda: None)
