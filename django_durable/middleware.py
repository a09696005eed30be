"""Middleware: who is logged in travels with the jobs that a request enqueues."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, ClassVar

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from django_durable.engine.context import asked_by, user_of


class EnqueuedByMiddleware:
    """Remembers the request, for jobs that are enqueued in it and for ``current_user()``.

    ``request.user`` is asked only when one of these wants to know. Works under WSGI and ASGI.
    """

    sync_capable: ClassVar = True
    async_capable: ClassVar = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._call_async(request)
        with asked_by(partial(user_of, request)):
            response: HttpResponseBase = self.get_response(request)
            return response

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        with asked_by(partial(user_of, request)):
            response: HttpResponseBase = await self.get_response(request)
            return response
