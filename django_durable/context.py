"""In whose name code runs, and what jobs take along from where they were enqueued.

>>> with acting_as(user):  # in a command or a test; in views the middleware does it
...     enqueue(make_report)
>>> @task
... def make_report():
...     current_user()  # who enqueued it, fetched fresh

Language and time zone travel by themselves; ``DURABLE["CONTEXT"]`` names providers of more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async

from django_durable.engine import context
from django_durable.engine.context import ContextProvider

__all__ = ["ContextProvider", "acting_as", "acurrent_user", "current_user"]


@contextmanager
def acting_as(user: Any) -> Iterator[None]:
    """Run the code inside in the name of a user; None: in nobody's.

    Raises: InvalidOptionError for what is no saved user.
    """
    reference = context.reference_to(user)
    with context.asked_by(lambda: reference):
        yield


def current_user() -> Any:
    """The user in whose name this code runs: in a job who enqueued it, in a view who is logged in.

    Fetched fresh at each call. None: nobody, or the user is gone; also in views without
    ``EnqueuedByMiddleware``.
    """
    return context.find_user()


async def acurrent_user() -> Any:
    return await sync_to_async(current_user, thread_sensitive=True)()
