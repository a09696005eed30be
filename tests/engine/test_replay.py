"""Which recorded checkpoint belongs to which call."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_durable.engine.replay import (
    History,
    Recorded,
    ReplayMismatch,
    Scope,
    base_name,
    check_name,
    describe_kind,
    keyed,
)
from django_durable.exceptions import (
    ConcurrentStepsError,
    DuplicateStepNameError,
    TaskDefinitionError,
)


def recorded(identity: str, seq: int, **fields: Any) -> Recorded:
    defaults = {"kind": "plain", "state": "SUCCESSFUL", "lease_token": 1, "fingerprint": ""}
    return Recorded(identity=identity, seq=seq, **{**defaults, **fields})


def history(*identities: str, allowed: tuple[str, ...] = ()) -> History:
    records = [recorded(identity, seq) for seq, identity in enumerate(identities, start=1)]
    return History(records, allowed_steps=allowed)


def run_through(known: History, *names: str) -> list[str]:
    """Call steps of these names in order; what each call found, NEW for those that run."""
    found = []
    for name in names:
        identity = known.root.identify(name)
        record = known.find(known.root, identity, kind="plain", fingerprint="")
        found.append(record.identity if record else "NEW")
    return found


class IdentityTests:
    def test_the_first_call_has_the_bare_name_and_the_next_are_numbered(self) -> None:
        scope = Scope()

        assert [scope.identify(name) for name in "aabaa"] == ["a", "a#2", "b", "a#3", "a#4"]

    def test_a_branch_stands_before_the_name(self) -> None:
        scope = Scope(path="left/")

        assert [scope.identify("a"), scope.identify("a")] == ["left/a", "left/a#2"]

    def test_a_key_stands_in_brackets(self) -> None:
        assert keyed("send", 42) == "send[42]"
        assert base_name("send[42]") == "send"

    @given(st.text(), st.text())
    def test_two_keys_never_look_alike(self, one: str, other: str) -> None:
        scope = Scope()
        identities = [scope.identify(keyed("send", one)), scope.identify(keyed("send", other))]

        assert len(set(identities)) == 2
        assert (identities[1] == f"{identities[0]}#2") == (one == other)

    @given(st.text(), st.text())
    def test_a_key_never_looks_like_a_branch_a_number_or_another_step(
        self, key: str, name: str
    ) -> None:
        identity = keyed("send", key)

        assert not set(identity.removeprefix("send[").removesuffix("]")) & set("/#[]\x00")
        assert base_name(identity) == "send"

    @pytest.mark.parametrize("name", ["", "  ", "\t\n", None, 5, b"a"])
    def test_a_name_must_not_be_blank(self, name: object) -> None:
        with pytest.raises(TaskDefinitionError, match="a step name must not be empty"):
            check_name(name)

    @pytest.mark.parametrize("character", ["/", "#", "[", "]", "\x00"])
    def test_a_name_must_not_hold_what_identities_are_made_of(self, character: str) -> None:
        with pytest.raises(TaskDefinitionError, match="must not contain"):
            check_name(f"a{character}b")


class MatchTests:
    def test_a_call_finds_its_record_and_later_ones_are_new(self) -> None:
        assert run_through(history("a", "b"), "a", "b", "c", "d") == ["a", "b", "NEW", "NEW"]

    def test_records_are_found_by_name_in_any_order(self) -> None:
        assert run_through(history("a", "b", "c"), "c", "a", "b", "d") == ["c", "a", "b", "NEW"]

    def test_a_removed_last_step_is_ignored(self) -> None:
        assert run_through(history("a", "b"), "a") == ["a"]

    def test_repeated_names_are_told_apart_by_number(self) -> None:
        assert run_through(history("a", "a#2"), "a", "a", "a") == ["a", "a#2", "NEW"]

    def test_an_inserted_step_is_refused_with_expected_and_found(self) -> None:
        with pytest.raises(ReplayMismatch) as caught:
            run_through(history("a", "b", "c"), "a", "x")

        assert str(caught.value) == (
            "expected b (recorded, not reached yet); "
            "found x, which has no checkpoint: a new step, or a renamed one"
        )

    def test_a_renamed_step_is_refused(self) -> None:
        with pytest.raises(ReplayMismatch, match=r"expected a .* found z"):
            run_through(history("a"), "z")

    def test_a_further_call_of_a_known_name_before_recorded_ones_is_refused(self) -> None:
        with pytest.raises(ReplayMismatch, match=r"expected b .* found a#2"):
            run_through(history("a", "b"), "a", "a")

    def test_an_allowed_name_may_run_anywhere(self) -> None:
        known = history("a", "b", allowed=("x",))

        assert run_through(known, "x", "a", "x", "b") == ["NEW", "a", "NEW", "b"]

    def test_a_new_key_of_a_known_step_runs_and_an_unreached_one_is_ignored(self) -> None:
        known = history("send[1]", "send[2]", "end")

        assert run_through(known, "send[3]", "send[2]", "end") == ["NEW", "send[2]", "end"]

    def test_an_allowed_step_may_have_any_key(self) -> None:
        assert run_through(history("a", allowed=("send",)), "send[1]", "a") == ["NEW", "a"]

    def test_a_key_of_a_step_never_recorded_is_refused_like_any_new_step(self) -> None:
        with pytest.raises(ReplayMismatch, match=r"found mail\[1\]"):
            run_through(history("send[1]", "end"), "mail[1]")

    @pytest.mark.parametrize(
        ("was", "now", "sentence"),
        [
            ("plain", "atomic", "expected a plain step at a (recorded); found an atomic step"),
            ("at_most_once", "plain", "expected an at-most-once step at a"),
            ("sleep", "plain", "expected a sleep at a (recorded); found a plain step"),
        ],
    )
    def test_another_kind_under_the_identity_is_refused(
        self, was: str, now: str, sentence: str
    ) -> None:
        known = History([recorded("a", 1, kind=was)])

        with pytest.raises(ReplayMismatch) as caught:
            known.find(known.root, "a", kind=now, fingerprint="")

        assert sentence in str(caught.value)

    def test_other_arguments_are_refused_with_both_shown(self) -> None:
        known = History([recorded("a", 1, fingerprint="1, 2")])

        with pytest.raises(ReplayMismatch, match=r"arguments 1, 2 \(recorded\); found 1, 3 \(this"):
            known.find(known.root, "a", kind="plain", fingerprint="1, 3")

    @pytest.mark.parametrize(("was", "now"), [(None, "1"), ("1", None), (None, None)])
    def test_arguments_that_are_not_matched_always_fit(
        self, was: str | None, now: str | None
    ) -> None:
        known = History([recorded("a", 1, fingerprint=was)])

        assert known.find(known.root, "a", kind="plain", fingerprint=now) is not None

    def test_sequence_numbers_go_on_after_the_last_recorded_one(self) -> None:
        known = History([recorded("a", 3), recorded("b", 7)])

        assert [known.next_seq(), known.next_seq()] == [8, 9]


class ScopeTests:
    def test_two_functions_under_one_name_are_refused(self) -> None:
        scope = Scope()
        scope.bind("load", run_through)

        with pytest.raises(DuplicateStepNameError, match=r"run_through and .*\.history"):
            scope.bind("load", history)

    def test_one_function_may_bind_its_name_again_and_again(self) -> None:
        scope = Scope()

        scope.bind("load", history)
        scope.bind("load", history)

        assert scope.functions == {"load": history}

    def test_durable_calls_take_turns(self) -> None:
        scope = Scope()
        scope.enter("first")

        with pytest.raises(ConcurrentStepsError, match='second was called while "first"'):
            scope.enter("second")
        scope.leave()
        scope.enter("second")

        assert scope.busy == "second"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("plain", "a plain step"), ("atomic", "an atomic step"), ("sleep", "a sleep")],
)
def test_kinds_are_named_in_words(kind: str, words: str) -> None:
    name: Callable[[str], str] = describe_kind

    assert name(kind) == words
