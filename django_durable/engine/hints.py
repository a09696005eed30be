"""What type hints say about the parts of a value: the classes they admit, the hints of items."""

import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

ITERABLES: tuple[type, ...] = (list, tuple, set, frozenset, Iterable)
ANYTHING = object()
"""A hint that fits every class, for looking at a value without building it."""


def hinted_classes(hint: Any) -> list[type]:
    """The classes a hint admits: those of a union, the one of a plain annotation."""
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        return [hint]
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return hinted_classes(typing.get_args(hint)[0])
    if origin is typing.Union or origin is types.UnionType:
        return [cls for option in typing.get_args(hint) for cls in hinted_classes(option)]
    return [origin] if isinstance(origin, type) else []


def _arguments_of(hint: Any, origins: tuple[type, ...]) -> tuple[Any, ...]:
    """The type arguments of the first option of a hint that is such a container."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _arguments_of(typing.get_args(hint)[0], origins)
    if origin is typing.Union or origin is types.UnionType:
        options = (_arguments_of(option, origins) for option in typing.get_args(hint))
        return next((found for found in options if found), ())
    if isinstance(origin, type) and issubclass(origin, origins):
        return typing.get_args(hint)
    return ()


def item_hints(hint: Any, count: int) -> list[Any]:
    """A hint for each of ``count`` items of a list, tuple or set annotated with ``hint``."""
    if hint is ANYTHING or hint is Any:
        return [hint] * count
    found = _arguments_of(hint, ITERABLES)
    if not found:
        return [Any] * count
    if len(found) == 1 or (len(found) == 2 and found[1] is Ellipsis):
        return [found[0]] * count
    return [*found, *[Any] * count][:count]


def mapping_hints(hint: Any) -> tuple[Any, Any]:
    """The hints of a mapping's keys and values."""
    if hint is ANYTHING or hint is Any:
        return hint, hint
    found = _arguments_of(hint, (Mapping,))
    return (found[0], found[1]) if len(found) == 2 else (Any, Any)
