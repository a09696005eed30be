"""Which queues a worker serves, as it is told in names and patterns."""

import pytest

from django_durable.engine.serving import Serving
from django_durable.exceptions import InvalidOptionError

QUEUES = ["default", "mail", "mail.bulk", "mail.bulk.2", "orders"]


def served(*told: str, known: list[str] | None = None) -> list[str]:
    serving = Serving.of(told, known=known)
    return [name for name in QUEUES if serving.serves(name)]


def refusal(*told: str, known: list[str] | None = None) -> str:
    with pytest.raises(InvalidOptionError) as caught:
        Serving.of(told, known=known)
    return str(caught.value)


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ([], QUEUES),
        (["orders"], ["orders"]),
        (["orders", "mail"], ["mail", "orders"]),
        (["mail*"], ["mail", "mail.bulk", "mail.bulk.2"]),
        (["mail.*"], ["mail.bulk", "mail.bulk.2"]),
        (["*bulk*"], ["mail.bulk", "mail.bulk.2"]),
        (["m*l"], ["mail"]),
        (["mai?"], ["mail"]),
        (["*.?"], ["mail.bulk.2"]),
        (["*"], QUEUES),
        (["-orders"], ["default", "mail", "mail.bulk", "mail.bulk.2"]),
        (["-mail*", "-orders"], ["default"]),
        (["mail*", "-mail.bulk*", "orders"], ["mail", "orders"]),
        (["-mail.bulk", "mail*"], ["mail", "mail.bulk.2"]),
        (["nobody.*"], []),
    ],
)
def test_names_patterns_and_exclusions(told: list[str], names: list[str]) -> None:
    assert served(*told) == names


def test_a_name_with_dots_is_no_pattern() -> None:
    assert not Serving.of(["mail.bulk"]).serves("mailxbulk")
    assert not Serving.of(["mail.b*"]).serves("mailxbulk")


def test_names_alone_are_exact() -> None:
    serving = Serving.of(["b", "a", "b"])

    assert (serving.exact_names, serving.patterns, str(serving)) == (("b", "a"), (), "b, a")


def test_patterns_are_kept_as_told() -> None:
    serving = Serving.of(["mail*", "-mail.bulk", "orders"])

    assert serving.exact_names == ()
    assert str(serving) == "mail*, -mail.bulk, orders"


@pytest.mark.parametrize("told", [[], ["*"], ["-orders"], ["mail*"]])
def test_of_known_queues_the_names_are_exact(told: list[str]) -> None:
    serving = Serving.of(told, known=QUEUES)

    assert list(serving.exact_names) == served(*told)
    assert list(serving.patterns) == told
    assert not serving.serves("another")


@pytest.mark.parametrize("pattern", ["", "-", "--a", "a b", "a/*", "[ab]", "*" * 101, ".a*", "-.a"])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    assert refusal("orders", pattern).startswith(f"queue {pattern!r} is refused: a ")


@pytest.mark.parametrize(
    "told",
    [
        ["-*"],
        ["-**"],
        ["mail*", "-mail*"],
        ["mail*", "orders", "-*"],
        ["orders", "-orders"],
        ["mail.?", "-mail.*"],
        ["a", "b", "-?"],
    ],
)
def test_when_nothing_is_left_it_is_refused(told: list[str]) -> None:
    assert "nothing is left to serve" in refusal(*told)


@pytest.mark.parametrize("told", [["mail*", "-mail?"], ["a*", "-*a"], ["*", "-a*"], ["a", "-?b"]])
def test_what_may_be_left_is_not_refused(told: list[str]) -> None:
    assert Serving.of(told).patterns == tuple(told)


@pytest.mark.parametrize("told", [["ordres"], ["orders", "rep*"], ["-ordres"]])
def test_what_fits_no_known_queue_is_refused(told: list[str]) -> None:
    assert "DURABLE['QUEUES'] names default, mail, mail.bulk" in refusal(*told, known=QUEUES)


def test_when_nothing_is_left_of_known_queues_it_is_refused() -> None:
    assert "nothing is left to serve" in refusal("-a", "-b", known=["a", "b"])
