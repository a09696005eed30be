"""Notices that code has changed, with Django's own tool, and says so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from django.utils import autoreload

logger = logging.getLogger("django_durable")


def watch_code(changed: Callable[[], None]) -> None:
    """Call ``changed`` once, from another thread, when a module's file has changed."""
    threading.Thread(target=_watch, args=(changed,), name="durable-reload", daemon=True).start()


def _watch(changed: Callable[[], None]) -> None:
    """Django's reloader ends its thread, meant to be the main one, with ``sys.exit``."""
    try:
        autoreload.get_reloader().run(threading.main_thread())
    except SystemExit:
        logger.info("The code has changed: starting anew.")
        changed()


@dataclass(slots=True)
class CodeFiles:
    """The files of all modules of this process, and what it saw of them last."""

    _seen: dict[Path, float] = field(default_factory=dict)

    def note(self) -> None:
        self._seen = self._read()

    def have_changed(self) -> bool:
        """Since they were noted."""
        return self._read() != self._seen

    def _read(self) -> dict[Path, float]:
        return dict(autoreload.StatReloader().snapshot_files())
