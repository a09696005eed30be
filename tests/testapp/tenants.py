"""Providers of context, as a project would write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

tenant: ContextVar[Any] = ContextVar("tenant", default=None)
LOG: list[str] = []
"""What providers noticed, in order."""


class TenantProvider:
    """The tenant travels."""

    def capture(self) -> Any:
        return tenant.get()

    @contextmanager
    def restore(self, value: Any) -> Iterator[None]:
        LOG.append(f"in {value}")
        token = tenant.set(value)
        try:
            yield
        finally:
            tenant.reset(token)
            LOG.append(f"out of {value}")


class Curious:
    """Says how the body ended, and would hide it if it could."""

    def capture(self) -> str:
        return "here"

    def restore(self, value: str) -> "Curious":
        return self

    def __enter__(self) -> None:
        LOG.append("enter")

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> bool:
        LOG.append(f"exit {kind.__name__ if kind else 'well'}")
        return True


class FailsAtTheEnd(Curious):
    def __exit__(self, *error: Any) -> bool:
        raise RuntimeError("cannot leave")


class FailsToRestore(Curious):
    def restore(self, value: str) -> "Curious":
        raise LookupError("no such tenant")


class FailsToCapture(Curious):
    def capture(self) -> str:
        raise LookupError("no tenant is chosen")


class CapturesNothingStorable(Curious):
    def capture(self) -> Any:
        return object()


curious = Curious()
nothing = 5
