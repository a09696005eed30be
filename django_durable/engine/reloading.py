"""Notices that code has changed, with Django's own tool, and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.utils import autoreload


def watch_code(changed: Callable[[], None]) -> None:
    """Call ``changed`` once, from another thread, when a module's file has changed."""
    threading.Thread(target=_watch, args=(changed,), name="durable-reload", daemon=True).start()


def _watch(changed: Callable[[], None]) -> None:
    """Django's reloader ends its thread, meant to be the main one, with ``sys.exit``."""
    try:
        autoreload.get_reloader().run(threading.main_thread())
    except SystemExit:
        changed()
