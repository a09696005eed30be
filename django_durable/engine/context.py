"""Who enqueued a job, in which language and time zone: captured with it, restored around its body.

Stored encoded as ``{"language": "de", "timezone": "Europe/Berlin", "user": {"$model": [..]}, ..}``,
without what equals the defaults, so mostly not at all. A job's children inherit, since what was
restored is what they capture. ``DURABLE["CONTEXT"]`` names providers of more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import timedelta
from datetime import timezone as offset
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone, translation
from django.utils.module_loading import import_string

from django_durable.conf import LANGUAGE, TIMEZONE, USER, get_settings
from django_durable.engine import codec, instances
from django_durable.engine.run import current_run
from django_durable.engine.threads import is_pristine
from django_durable.exceptions import InvalidOptionError, JobRowError, MissingInstanceError

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_durable.models import Job

logger = logging.getLogger("django_durable")
_BUILT_IN = frozenset({LANGUAGE, TIMEZONE, USER})

LONGEST_SHOWN = 100  # characters of a provider's value in a line for people

Reference = dict[str, Any]
"""A user as stored: ``{"$model": ["auth.user", 3]}``."""
_asker: ContextVar[Callable[[], Reference | None] | None] = ContextVar(
    "durable_asker", default=None
)
"""How to tell in whose name this code runs; None: in nobody's."""


class ContextProvider(Protocol):
    """Something that jobs take along from where they were enqueued."""

    def capture(self) -> Any:
        """What is in force now, as a value that can be stored; None: nothing."""

    def restore(self, value: Any) -> AbstractContextManager[Any]:
        """Put it in force again, around the run of a job."""


# --- taking along


def capture() -> str | None:
    """What is in force where this is called, encoded; None if that is the default.

    Raises: NotSerializableError, PayloadTooLargeError, ImproperlyConfigured; what providers raise.
    """
    found = _builtins_in_force()
    more = _provided_in_force() if (paths := get_settings().CONTEXT) else {}
    run = current_run()
    if run is not None and run.job.context is not None:
        known = _BUILT_IN | paths.keys()
        found |= {name: v for name, v in read(run.job).items() if name not in known}
    if not found and not more:
        return None

    def build(encoder: codec.Encoder) -> codec.JsonValue:
        encoded = {k: encoder.encode(v, Any, f"the context {k!r}") for k, v in more.items()}
        return found | encoded

    return codec.write_text(
        build, "the context", instances.model_key, get_settings().MAX_PAYLOAD_BYTES
    )


def _builtins_in_force() -> dict[str, Any]:
    found: dict[str, Any] = {}
    language = translation.get_language()
    if language and language != settings.LANGUAGE_CODE:  # None: translations are off
        found[LANGUAGE] = language
    zone = timezone.get_current_timezone()
    if zone is not timezone.get_default_timezone() and (name := _name_of(zone)) is not None:
        found[TIMEZONE] = name
    if (asker := _asker.get()) is not None and (user := asker()) is not None:
        found[USER] = user
    return found


def _name_of(zone: Any) -> str | float | None:
    """The key of a time zone, or the seconds of a fixed offset."""
    key: str | None = getattr(zone, "key", None)
    if key is not None:
        return key
    fixed = zone.utcoffset(None)
    return fixed.total_seconds() if fixed is not None else None


def _provided_in_force() -> dict[str, Any]:
    found = {name: provider.capture() for name, provider in providers().items()}
    return {name: value for name, value in found.items() if value is not None}


# --- restoring


def restored(job: Job) -> AbstractContextManager[None]:
    """Run with what was in force where a job was enqueued; its providers see how the body ends.

    What was in force here before is not put back: to be called in a context of the job's own.
    Raises: JobRowError for what no enqueueing wrote, MissingInstanceError; what providers raise.
    """
    if job.context is None:
        if not is_pristine():
            _restore_builtins(_NOTHING)
        return _UNCHANGED
    return _restored(job)


_NOTHING: Mapping[str, Any] = {}
_UNCHANGED = nullcontext()


@contextmanager
def _restored(job: Job) -> Iterator[None]:
    stored = read(job)
    _restore_builtins(stored)
    with ExitStack() as stack:
        for name in [name for name in stored if name not in _BUILT_IN]:
            if name in get_settings().CONTEXT:
                value = instances.decode(codec.dump(stored[name]))
                _enter(stack, name, providers()[name].restore(value))
            else:
                logger.warning(
                    "Job %s: its context has %r, which DURABLE['CONTEXT'] does not name; ignored.",
                    job.pk, name, extra={"job_id": str(job.pk), "task_path": job.task_path},
                )  # fmt: skip
        yield


def read(job: Job) -> dict[str, Any]:
    """What is stored of a job's context. Raises: JobRowError."""
    stored = json.loads(job.context) if job.context is not None else {}
    if not _is_context(stored):
        reason = f"its context is not what was enqueued: {job.context}"
        raise JobRowError(job_id=job.pk, task_path=job.task_path, reason=reason)
    return dict(stored)


def _is_context(stored: Any) -> bool:
    return (
        isinstance(stored, dict)
        and isinstance(stored.get(LANGUAGE, ""), str)
        and isinstance(stored.get(TIMEZONE, ""), str | int | float)
        and (USER not in stored or _is_reference(stored[USER]))
    )


def _is_reference(stored: Any) -> bool:
    found = stored.get("$model") if isinstance(stored, dict) else None
    return isinstance(found, list) and len(found) == 2


def _restore_builtins(stored: Mapping[str, Any]) -> None:
    if LANGUAGE in stored:
        translation.activate(stored[LANGUAGE])
    else:
        translation.deactivate()
    if TIMEZONE in stored:
        timezone.activate(_zone_of(stored[TIMEZONE]))
    else:
        timezone.deactivate()
    user = stored.get(USER)
    _asker.set(None if user is None else lambda: user)


def _zone_of(name: str | float) -> Any:
    return name if isinstance(name, str) else offset(timedelta(seconds=name))


def _enter(stack: ExitStack, name: str, manager: AbstractContextManager[Any]) -> None:
    """Enter a provider's context manager; its end cannot change how the body has ended."""
    manager.__enter__()

    def leave(*error: Any) -> bool:
        try:
            manager.__exit__(*error)
        except BaseException as raised:  # user code may raise anything, the body's error too
            if raised is not error[1]:
                logger.exception("DURABLE['CONTEXT'][%r] failed after the body had ended.", name)
        return False

    stack.push(leave)


# --- the user


def reference_to(user: Any) -> Reference | None:
    """A user as stored; None of nobody. Raises: InvalidOptionError for what is no saved user."""
    if user is None or getattr(user, "is_anonymous", False) is True:
        return None
    if not isinstance(user, get_user_model()):
        reason = f"it is no {settings.AUTH_USER_MODEL}; for nobody pass None."
        raise InvalidOptionError(option="user", value=user, reason=reason)
    try:
        instances.model_key(user)
    except ValueError as error:
        raise InvalidOptionError(option="user", value=user, reason=str(error)) from None
    key = json.loads(instances.encode(user.pk, path="the user's key"))
    return {"$model": [settings.AUTH_USER_MODEL.lower(), key]}


@contextmanager
def asked_by(asker: Callable[[], Reference | None] | None) -> Iterator[None]:
    token = _asker.set(asker)
    try:
        yield
    finally:
        _asker.reset(token)


def user_of(request: HttpRequest) -> Reference | None:
    """Who is logged in, if anybody, as of now."""
    return reference_to(getattr(request, "user", None))


def find_user() -> Any:
    """The user in whose name this code runs, fetched fresh; None: nobody, or gone."""
    asker = _asker.get()
    user = asker() if asker is not None else None
    return None if user is None else _fetch(user)


def _fetch(user: Reference) -> Any:
    label, _ = user["$model"]
    if label != settings.AUTH_USER_MODEL.lower():
        return None
    try:
        return instances.decode(codec.dump(user))
    except MissingInstanceError:
        return None


# --- providers


def providers() -> dict[str, ContextProvider]:
    """Those that ``DURABLE["CONTEXT"]`` names. Raises: ImproperlyConfigured."""
    return _load_all(tuple(get_settings().CONTEXT.items()))


@lru_cache(maxsize=8)
def _load_all(paths: tuple[tuple[str, str], ...]) -> dict[str, ContextProvider]:
    return {name: load_provider(name, path) for name, path in paths}


def load_provider(name: str, path: str) -> ContextProvider:
    """The object of a path; of a class, an instance. Raises: ImproperlyConfigured."""
    shown = f"DURABLE['CONTEXT'][{name!r}] = {path!r}"
    try:
        found = import_string(path)
        provider = found() if isinstance(found, type) else found
    except Exception as error:  # importing user code may raise anything
        raise ImproperlyConfigured(f"{shown} cannot be loaded: {error!r}.") from error
    if missing := [v for v in ("capture", "restore") if not callable(getattr(provider, v, None))]:
        raise ImproperlyConfigured(f"{shown} has no {missing[0]}().")
    loaded: ContextProvider = provider
    return loaded


# --- for people


def describe(text: str | None, *, by: str = "enqueued by {}") -> str:
    """Such as ``enqueued by anna, de, Europe/Berlin``; a user costs a query, and may be gone."""
    stored = json.loads(text) if text is not None else {}
    if not _is_context(stored):
        return str(text)
    parts = [by.format(_name_of_user(stored[USER]))] if USER in stored else []
    if LANGUAGE in stored:
        parts.append(stored[LANGUAGE])
    if TIMEZONE in stored:
        parts.append(str(_zone_of(stored[TIMEZONE])))
    more = {k: _shortened(codec.dump(v)) for k, v in stored.items() if k not in _BUILT_IN}
    return ", ".join([*parts, *(f"{name} {value}" for name, value in more.items())])


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def _name_of_user(reference: Reference) -> str:
    try:
        user = _fetch(reference)
    except codec.UndecodableError:  # a key that no such model has, or no such model
        user = None
    return str(user) if user is not None else f"{reference['$model']} (gone)"
