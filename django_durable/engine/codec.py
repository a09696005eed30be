"""Values to JSON text and back, without pickle and without importing anything a row names.

What JSON lacks is tagged: ``{"$datetime": "..."}``, ``{"$tuple": [...]}`` and so on. Dataclasses
and enums are stored only where a type hint names their class, and the class always comes from the
hint.
A model instance is stored as its label and key; who decodes says how to look it up.
"""

import base64
import dataclasses
import datetime as dt
import enum
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.utils.functional import Promise

from django_durable.exceptions import DurableError, NotSerializableError, PayloadTooLargeError

JsonValue = Any  # what json.loads returns: None, bool, int, float, str, list, dict
ModelKey = Callable[[Any], "tuple[str, Any] | None"]
Resolve = Callable[[str, Any], Any]


class UndecodableError(DurableError):
    """A stored value that does not decode: edited by hand, or its type hint is gone."""

    message = "{reason}"


def encode_text(
    value: Any, *, hint: Any = Any, path: str, model_key: ModelKey, limit: int | None = None
) -> str:
    """The JSON text of a value. ``path`` names the value in errors; ``limit`` is in bytes.

    Raises: NotSerializableError, PayloadTooLargeError.
    """
    return write_text(lambda encoder: encoder.encode(value, hint, path), path, model_key, limit)


def write_text(
    build: Callable[["Encoder"], JsonValue], path: str, model_key: ModelKey, limit: int | None
) -> str:
    """The JSON text of the structure that ``build`` makes with an encoder."""
    try:
        text = dump(build(Encoder(model_key)))
        size = len(text.encode())
    except RecursionError:
        raise NotSerializableError(
            path=path, reason="it contains itself, or is nested too deeply."
        ) from None
    except UnicodeEncodeError:
        reason = "it holds half of a surrogate pair, which is not text."
        raise NotSerializableError(path=path, reason=reason) from None
    except ValueError as error:
        raise NotSerializableError(path=path, reason=f"{error}.") from None
    if limit is not None and size > limit:
        raise PayloadTooLargeError(path=path, size=size, limit=limit)
    return text


def dump(structure: JsonValue) -> str:
    return json.dumps(structure, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _strings(value: Any, hint: Any, path: str) -> str:
    text = str(value)
    if "\x00" in text:
        raise NotSerializableError(path=path, reason="it holds a NUL character.")
    return text


class Encoder:
    """Turns values into JSON structures; one instance serves any number of values."""

    def __init__(self, model_key: ModelKey) -> None:
        self._model_key = model_key

    def encode(self, value: Any, hint: Any, path: str) -> JsonValue:
        kind = type(value)
        if value is None or kind is bool or kind is int:
            return value
        if kind is str:
            return _strings(value, hint, path)
        if kind is list:
            return self._items(value, hint, path)
        if kind is dict:
            return self._dict(value, hint, path)
        if kind in _TAGGED:
            tag, write = _TAGGED[kind]
            return {tag: write(value, path)}
        if kind is float:
            return _finite(value, path)
        if kind in _COLLECTIONS:
            return {_COLLECTIONS[kind]: self._items(value, hint, path)}
        return self._other(value, hint, path)

    def _items(self, value: Any, hint: Any, path: str) -> list[JsonValue]:
        hints = item_hints(hint, len(value))
        return [
            self.encode(item, hints[i], f"{path}[{i}]") for i, item in enumerate(_ordered(value))
        ]

    def _dict(self, value: dict[Any, Any], hint: Any, path: str) -> JsonValue:
        key_hint, value_hint = mapping_hints(hint)
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {
                _strings(k, None, f"{path} key {k!r}"): self.encode(v, value_hint, f"{path}[{k!r}]")
                for k, v in value.items()
            }
        return {
            "$dict": [
                [
                    self.encode(k, key_hint, f"{path} key {k!r}"),
                    self.encode(v, value_hint, f"{path}[{k!r}]"),
                ]
                for k, v in value.items()
            ]
        }

    def _other(self, value: Any, hint: Any, path: str) -> JsonValue:
        if isinstance(value, enum.Enum):
            return self._enum(value, hint, path)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value, hint, path)
        if isinstance(value, str | Promise):
            return _strings(value, hint, path)
        if (reference := self._model_reference(value, path)) is not None:
            return reference
        raise NotSerializableError(path=path, reason=_cure(value))

    def _model_reference(self, value: Any, path: str) -> JsonValue | None:
        try:
            found = self._model_key(value)
        except ValueError as error:
            raise NotSerializableError(path=path, reason=str(error)) from None
        if found is None:
            return None
        label, key = found
        return {"$model": [label, self.encode(key, Any, f"{path}.pk")]}

    def _enum(self, value: enum.Enum, hint: Any, path: str) -> JsonValue:
        if type(value) in hinted_classes(hint):
            return {"$enum": [type(value).__qualname__, value.name]}
        if isinstance(value, str | int | float):
            return self.encode(value.value, Any, path)
        reason = f"{value!r} is an enum; annotate it with {type(value).__name__}, or pass .value."
        raise NotSerializableError(path=path, reason=reason)

    def _dataclass(self, value: Any, hint: Any, path: str) -> JsonValue:
        cls = type(value)
        if cls not in hinted_classes(hint):
            reason = (
                f"a {cls.__name__} is stored only where a type hint names its class; annotate it, "
                "or pass dataclasses.asdict(...)."
            )
            raise NotSerializableError(path=path, reason=reason)
        hints = typing.get_type_hints(cls)
        fields = {
            f.name: self.encode(getattr(value, f.name), hints.get(f.name, Any), f"{path}.{f.name}")
            for f in dataclasses.fields(value)
            if f.init
        }
        return {"$dataclass": [cls.__qualname__, fields]}


def decode_text(text: str, *, hint: Any = Any, resolve: Resolve) -> Any:
    """The value of a stored text. ``resolve(label, key)`` returns a model instance.

    Raises: UndecodableError, and what ``resolve`` raises.
    """
    return read_text(text, lambda decoder, structure: decoder.decode(structure, hint), resolve)


def read_text(text: str, build: Callable[["Decoder", JsonValue], Any], resolve: Resolve) -> Any:
    """What ``build`` makes of the stored structure with a decoder."""
    try:
        return build(Decoder(resolve), json.loads(text))
    except UndecodableError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise UndecodableError(reason=f"it does not decode ({error!r}).") from error


def find_references(text: str) -> list[tuple[str, Any]]:
    """The (label, key) of each model instance in a stored text, so they can be fetched together."""
    found: list[tuple[str, Any]] = []
    if '"$model"' in text:
        read_text(
            text,
            lambda decoder, structure: decoder.decode(structure, _ANYTHING),
            lambda label, key: found.append((label, key)),
        )
    return found


class Decoder:
    """Turns JSON structures back into values."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def decode(self, structure: JsonValue, hint: Any) -> Any:
        if type(structure) is list:
            hints = item_hints(hint, len(structure))
            return [self.decode(item, hints[i]) for i, item in enumerate(structure)]
        if type(structure) is not dict:
            return structure
        if len(structure) == 1:
            (tag,) = structure
            if tag.startswith("$"):
                return self._tagged(tag, structure[tag], hint)
        _, value_hint = mapping_hints(hint)
        return {key: self.decode(value, value_hint) for key, value in structure.items()}

    def _tagged(self, tag: str, body: JsonValue, hint: Any) -> Any:
        if tag in _READERS:
            return _READERS[tag](body)
        if tag in _COLLECTION_TAGS:
            items = self.decode(body, hint)
            return items if hint is _ANYTHING else _COLLECTION_TAGS[tag](items)
        if tag == "$dict":
            key_hint, value_hint = mapping_hints(hint)
            pairs = [(self.decode(k, key_hint), self.decode(v, value_hint)) for k, v in body]
            return pairs if hint is _ANYTHING else dict(pairs)
        if tag == "$model":
            return self._resolve(body[0], self.decode(body[1], Any))
        if tag == "$enum":
            return body[1] if hint is _ANYTHING else _hinted(hint, body[0])[body[1]]
        if tag == "$dataclass":
            return self._dataclass(body, hint)
        raise UndecodableError(reason=f"it holds the unknown tag {tag!r}.")

    def _dataclass(self, body: JsonValue, hint: Any) -> Any:
        name, fields = body
        if hint is _ANYTHING:
            return {k: self.decode(v, hint) for k, v in fields.items()}
        cls = _hinted(hint, name)
        hints = typing.get_type_hints(cls)
        return cls(**{k: self.decode(v, hints.get(k, Any)) for k, v in fields.items()})


# --- hints

_ANYTHING = object()  # a hint that fits every class, for looking without building


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


def _hinted(hint: Any, qualname: str) -> Any:
    for cls in hinted_classes(hint):
        if cls.__qualname__ == qualname:
            return cls
    raise UndecodableError(reason=f"it holds a {qualname}, but no type hint names that class.")


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
    if hint is _ANYTHING or hint is Any:
        return [hint] * count
    found = _arguments_of(hint, _ITERABLES)
    if not found:
        return [Any] * count
    if len(found) == 1 or (len(found) == 2 and found[1] is Ellipsis):
        return [found[0]] * count
    return [*found, *[Any] * count][:count]


def mapping_hints(hint: Any) -> tuple[Any, Any]:
    """The hints of a mapping's keys and values."""
    if hint is _ANYTHING or hint is Any:
        return hint, hint
    found = _arguments_of(hint, (Mapping,))
    return (found[0], found[1]) if len(found) == 2 else (Any, Any)


# --- one writer and one reader for each tag


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise NotSerializableError(path=path, reason=f"{value!r} is not a finite number.")
    return value


def _datetime(value: dt.datetime, path: str) -> str:
    if value.tzinfo is None:
        reason = f"{value!r} is naive; use django.utils.timezone.now() or make_aware()."
        raise NotSerializableError(path=path, reason=reason)
    return value.isoformat()


def _decimal(value: Decimal, path: str) -> str:
    if not value.is_finite():
        raise NotSerializableError(path=path, reason=f"{value!r} is not a finite number.")
    return str(value)


def _microseconds(value: dt.timedelta, path: str) -> int:
    return value // dt.timedelta(microseconds=1)


def _ordered(value: Any) -> Any:
    """Sets in a stable order, so that equal sets have equal texts; the rest as it is."""
    return sorted(value, key=repr) if isinstance(value, set | frozenset) else value


def _cure(value: object) -> str:
    name = type(value).__name__
    if hasattr(value, "model") and hasattr(value, "iterator"):
        return "a queryset is a question, not data; pass list(queryset) or the keys."
    for plain in (dict, list, tuple, set, int, float):
        if isinstance(value, plain):
            return f"{name} is a subclass of {plain.__name__}; pass {plain.__name__}(...)."
    return f"{name} is not a type that can be stored; pass plain data or a model instance."


_TAGGED: dict[type, tuple[str, Callable[[Any, str], JsonValue]]] = {
    dt.datetime: ("$datetime", _datetime),
    dt.date: ("$date", lambda v, path: v.isoformat()),
    dt.time: ("$time", lambda v, path: v.isoformat()),
    dt.timedelta: ("$timedelta", _microseconds),
    Decimal: ("$decimal", _decimal),
    UUID: ("$uuid", lambda v, path: str(v)),
    bytes: ("$bytes", lambda v, path: base64.b64encode(v).decode()),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "$datetime": dt.datetime.fromisoformat,
    "$date": dt.date.fromisoformat,
    "$time": dt.time.fromisoformat,
    "$timedelta": lambda body: dt.timedelta(microseconds=body),
    "$decimal": Decimal,
    "$uuid": UUID,
    "$bytes": base64.b64decode,
}
_COLLECTIONS: dict[type, str] = {tuple: "$tuple", set: "$set", frozenset: "$frozenset"}
_COLLECTION_TAGS: dict[str, Callable[[Any], Any]] = {tag: t for t, tag in _COLLECTIONS.items()}
_ITERABLES = (
    list,
    tuple,
    set,
    frozenset,
    typing.cast("type", typing.get_origin(typing.Iterable[int])),
)
