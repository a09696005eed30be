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
import inspect
import json
import math
import typing
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from json.encoder import encode_basestring
from typing import Any
from uuid import UUID

from django.utils.functional import Promise

from django_durable.engine.hints import ANYTHING, hinted_classes, item_hints, mapping_hints
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
    text = plain_text((value,))
    if text is not None and (limit is None or len(text) <= limit):
        return text
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
    except ValueError as error:
        raise NotSerializableError(path=path, reason=f"{error}.") from None
    if limit is not None and size > limit:
        raise PayloadTooLargeError(path=path, size=size, limit=limit)
    return text


def dump(structure: JsonValue) -> str:
    return _JSON.encode(structure)


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def plain_text(values: Iterable[Any]) -> str | None:
    """The JSON texts of whole numbers and ASCII texts, parted by commas; None: not all are those.

    The same that ``write_text`` writes, for a tenth of the time.
    """
    parts = []
    for value in values:
        kind = type(value)
        if kind is int and -_LARGE < value < _LARGE:
            parts.append(repr(value))
        elif kind is str and value.isascii() and "\x00" not in value:
            parts.append(encode_basestring(value))
        else:
            return None
    return ",".join(parts)


_LARGE = 1 << 64


def _text(value: Any, path: str) -> str:
    text = str(value)
    if "\x00" in text:
        raise NotSerializableError(path=path, reason="it holds a NUL character.")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        reason = "it holds half of a surrogate pair, which is not text."
        raise NotSerializableError(path=path, reason=reason)
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
            return _text(value, path)
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
        items = [self.encode(item, hints[i], f"{path}[{i}]") for i, item in enumerate(value)]
        # Equal sets have equal texts, whatever their history and the seed of this process.
        return sorted(items, key=dump) if isinstance(value, set | frozenset) else items

    def _dict(self, value: dict[Any, Any], hint: Any, path: str) -> JsonValue:
        key_hint, value_hint = mapping_hints(hint)
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {
                _text(k, f"{path} key {k!r}"): self.encode(v, value_hint, f"{path}[{k!r}]")
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
            return _text(value, path)
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
            member = value.name if value.name in type(value).__members__ else value.value
            return {"$enum": [type(value).__qualname__, member]}
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
        hints = _field_hints(cls, path)
        fields = {
            f.name: self.encode(getattr(value, f.name), hints.get(f.name, Any), f"{path}.{f.name}")
            for f in dataclasses.fields(value)
            if f.init
        }
        return {"$dataclass": [cls.__qualname__, fields]}


def _field_hints(cls: type, path: str) -> dict[str, Any]:
    """The hints of a dataclass that can be made again from its fields."""
    names = {f.name for f in dataclasses.fields(cls) if f.init}
    needed = {p.name for p in inspect.signature(cls).parameters.values() if p.default is p.empty}
    if needed - names:
        reason = f"{cls.__name__} cannot be made again from its fields alone: it takes InitVar."
        raise NotSerializableError(path=path, reason=reason)
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError, AttributeError) as error:
        reason = f"a type hint of {cls.__name__} cannot be evaluated ({error})."
        raise NotSerializableError(path=path, reason=reason) from None


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


def is_scalar(text: str) -> bool:
    """Whether a stored text is one number, text, truth value or null, and decodes to that."""
    return not text.lstrip().startswith(("[", "{"))


def decode_scalar(text: str) -> Any:
    """The value of such a text. Raises: UndecodableError."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UndecodableError(reason=f"it does not decode ({error!r}).") from error


def find_references(text: str) -> list[tuple[str, Any]]:
    """The (label, key) of each model instance in a stored text, so they can be fetched together."""
    found: list[tuple[str, Any]] = []
    if '"$model"' in text:
        read_text(
            text,
            lambda decoder, structure: decoder.decode(structure, ANYTHING),
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
            return items if hint is ANYTHING else _COLLECTION_TAGS[tag](items)
        if tag == "$dict":
            key_hint, value_hint = mapping_hints(hint)
            pairs = [(self.decode(k, key_hint), self.decode(v, value_hint)) for k, v in body]
            return pairs if hint is ANYTHING else dict(pairs)
        if tag == "$model":
            return self._instance(body, hint)
        if tag == "$enum":
            return body[1] if hint is ANYTHING else _member(_hinted(hint, body[0]), body[1])
        if tag == "$dataclass":
            return self._dataclass(body, hint)
        raise UndecodableError(reason=f"it holds the unknown tag {tag!r}.")

    def _instance(self, body: JsonValue, hint: Any) -> Any:
        label, key = body
        if not isinstance(label, str):
            raise UndecodableError(reason=f"{label!r} is no model's label.")
        instance = self._resolve(label, self.decode(key, Any))
        models = tuple(cls for cls in hinted_classes(hint) if hasattr(cls, "_meta"))
        if models and hint is not ANYTHING and not isinstance(instance, models):
            raise UndecodableError(
                reason=f"it holds a {label}, which its type hint does not admit."
            )
        return instance

    def _dataclass(self, body: JsonValue, hint: Any) -> Any:
        name, fields = body
        if hint is ANYTHING:
            return {k: self.decode(v, hint) for k, v in fields.items()}
        cls = _hinted(hint, name)
        hints = typing.get_type_hints(cls)
        return cls(**{k: self.decode(v, hints.get(k, Any)) for k, v in fields.items()})


def _hinted(hint: Any, qualname: str) -> Any:
    for cls in hinted_classes(hint):
        if cls.__qualname__ == qualname:
            return cls
    raise UndecodableError(reason=f"it holds a {qualname}, but no type hint names that class.")


def _member(cls: Any, stored: Any) -> Any:
    """A member by its name; a combination of flags by its value."""
    return cls[stored] if isinstance(stored, str) else cls(stored)


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
    "$bytes": partial(base64.b64decode, validate=True),
}
_COLLECTIONS: dict[type, str] = {tuple: "$tuple", set: "$set", frozenset: "$frozenset"}
_COLLECTION_TAGS: dict[str, Callable[[Any], Any]] = {tag: t for t, tag in _COLLECTIONS.items()}
