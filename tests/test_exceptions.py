"""The error tree: complete on its page, and each error keeps its fields."""

import copy
import inspect
import pickle
import re
import string
from typing import Any

import pytest

import django_durable
from django_durable import exceptions
from django_durable.exceptions import DurableError, Suspension


def subclasses_of(cls: type[Any]) -> list[type[Any]]:
    return [cls, *(found for below in cls.__subclasses__() for found in subclasses_of(below))]


ERRORS = sorted(
    {cls for cls in subclasses_of(DurableError) if cls.__module__.startswith("django_durable")},
    key=lambda cls: cls.__name__,
)


def made(cls: type[DurableError]) -> DurableError:
    """An error with a value in each field of its message."""
    names = {name for _, name, _, _ in string.Formatter().parse(cls.message) if name}
    return cls(**{name: f"<{name}>" for name in names})


class EveryErrorTests:
    @pytest.mark.parametrize("cls", ERRORS)
    def test_survives_pickling_with_its_fields(self, cls: type[DurableError]) -> None:
        error = made(cls)

        again = pickle.loads(pickle.dumps(error))

        assert type(again) is cls
        assert vars(again) == vars(error) != {}
        assert str(again) == str(error)

    @pytest.mark.parametrize("cls", ERRORS)
    def test_can_be_copied(self, cls: type[DurableError]) -> None:
        assert str(copy.copy(made(cls))) == str(made(cls))

    @pytest.mark.parametrize("cls", ERRORS)
    def test_shows_every_field_it_was_given(self, cls: type[DurableError]) -> None:
        error = made(cls)

        assert all(str(value) in str(error) for value in vars(error).values())

    def test_braces_in_a_field_are_only_text(self) -> None:
        error = exceptions.NotSerializableError(path="x['{a}']", reason="{0} {reason}")

        assert str(error) == "x['{a}'] cannot be stored: {0} {reason}"


class TreeTests:
    def drawn_tree(self) -> dict[str, str]:
        """The name of each drawn error's parent."""
        parents: dict[str, str] = {}
        line: list[str] = []
        for drawn in (exceptions.__doc__ or "").splitlines():
            if found := re.match(r"    ([│├└─ ]*)(\w+)(?:\(|\s\s|$)", drawn):
                depth = len(found[1]) // 4
                line[depth:] = [found[2]]
                parents[found[2]] = line[depth - 1] if depth else ""
        return parents

    def test_the_drawn_tree_lists_every_class_under_its_parent(self) -> None:
        classes = inspect.getmembers(
            exceptions,
            lambda value: inspect.isclass(value) and value.__module__ == exceptions.__name__,
        )
        truth = {name: cls.__mro__[1].__name__ for name, cls in classes}
        truth |= {"DurableError": "", "Suspension": ""}

        assert self.drawn_tree() == truth

    def test_a_suspension_is_not_an_exception(self) -> None:
        assert issubclass(Suspension, BaseException)
        assert not issubclass(Suspension, Exception)

    @pytest.mark.parametrize(
        ("cls", "builtin"),
        [
            (exceptions.InvalidArgumentsError, TypeError),
            (exceptions.NotSerializableError, TypeError),
            (exceptions.InvalidOptionError, ValueError),
            (exceptions.PayloadTooLargeError, ValueError),
        ],
    )
    def test_bad_values_are_also_the_builtin_error_one_expects(
        self, cls: type[Exception], builtin: type[Exception]
    ) -> None:
        assert issubclass(cls, builtin)


class PublicNameTests:
    @pytest.mark.parametrize("name", django_durable.__all__)
    def test_resolves_and_is_listed(self, name: str) -> None:
        assert getattr(django_durable, name) is not None
        assert name in dir(django_durable)

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="'django_durable' has no attribute 'tusk'"):
            _ = django_durable.tusk

    def test_the_names_for_type_checkers_are_the_names_at_run_time(self) -> None:
        source = inspect.getsource(django_durable)
        declared = re.findall(r"import (\w+) as (\w+)", source)

        assert {new for _, new in declared} == set(django_durable.__all__) - {"__version__"}
        assert all(old == new for old, new in declared)
