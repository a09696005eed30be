"""How values look: badges, times, durations, encoded texts, links. Escapes all, decides nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import slugify
from django.utils.timezone import localtime
from django.utils.translation import gettext, ngettext

from django_durable.engine.instances import storable
from django_durable.engine.states import FOREVER

LONGEST_TEXT = 20_000
"""Characters of one value or traceback on a page."""
LONGEST_LINE = 100
"""Characters of what stands on one line and may be opened."""
EMPTY = "-"


def badge(state: str, label: object) -> SafeString:
    return format_html('<span class="durable-badge durable-{}">{}</span>', slugify(state), label)


def duration(delta: timedelta) -> str:
    """In the two largest units that matter. Negative ones, of clocks that differ, are nothing."""
    seconds = max(delta.total_seconds(), 0.0)
    if seconds < 1:
        return gettext("%(ms)d ms") % {"ms": seconds * 1000}
    if seconds < 10:
        return gettext("%(s).1f s") % {"s": seconds}
    if seconds < 60:
        return gettext("%(s)d s") % {"s": seconds}
    minutes, s = divmod(int(seconds), 60)
    if minutes < 60:
        return gettext("%(min)d min %(s)d s") % {"min": minutes, "s": s}
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return gettext("%(h)d h %(min)d min") % {"h": hours, "min": minutes}
    days, hours = divmod(hours, 24)
    return gettext("%(d)d d %(h)d h") % {"d": days, "h": hours}


def distance(value: datetime, now: datetime) -> str:
    """How far a time lies from now."""
    if value > now:
        return gettext("in %(duration)s") % {"duration": duration(value - now)}
    return gettext("%(duration)s ago") % {"duration": duration(now - value)}


def clock_time(value: datetime) -> str:
    """To the second, in the current time zone, the same in every language."""
    return date_format(localtime(value), "Y-m-d H:i:s")


def moment(value: datetime, now: datetime) -> SafeString:
    return format_html(
        '<time datetime="{}">{}</time> <span class="durable-quiet">{}</span>',
        value.isoformat(),
        clock_time(value),
        distance(value, now),
    )


def times(row: Any, labels: Mapping[str, object]) -> SafeString:
    """A table of the times of a row, by column, without those that have not come."""
    found = [(label, getattr(row, column)) for column, label in labels.items()]
    shown = [pair for pair in found if pair[1] not in (None, FOREVER)]
    lines = [(label, moment(value, row.now)) for label, value in shown]
    body = format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", lines)
    return format_html('<table class="durable-times">{}</table>', body)


def age(value: datetime, now: datetime) -> SafeString:
    """How long ago; the time itself on hovering."""
    return format_html(
        '<span class="durable-age" title="{}">{}</span>', clock_time(value), duration(now - value)
    )


# --- encoded texts


def pretty(text: str) -> str:
    """An encoded value, indented if it is long. A model instance stays label and key."""
    try:
        value = json.loads(text)
        shown = json.dumps(value, ensure_ascii=False)
        if len(shown) > LONGEST_LINE:
            shown = json.dumps(value, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # too many digits, or nested too deep, to be read here
        shown = text
    return storable(shown)


def shorten(text: str, longest: int = LONGEST_TEXT, size: int | None = None) -> str:
    """The beginning of a text, saying how long it is in all: ``size``, if this is not all of it."""
    size = len(text) if size is None else size
    if size <= longest and size == len(text):
        return text
    note = ngettext("(%(size)d character in all)", "(%(size)d characters in all)", size)
    return f"{text[:longest]} … {note % {'size': size}}"


def block(text: str | None) -> SafeString | str:
    """A text with its lines as they are."""
    if text is None:
        return EMPTY
    return format_html('<pre class="durable-text">{}</pre>', shorten(text))


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """The first line of a text, cut where it is too long."""
    text = text.strip()
    first = text.partition("\n")[0]
    return first if first == text and len(first) <= longest else f"{first[: longest - 1]}…"


def fold(summary: str, text: str) -> SafeString:
    """A text to open, under a line of summary; one that is no longer than that, as it is."""
    line = one_line(summary)
    if line == text:
        return format_html("<code>{}</code>", line)
    return format_html("<details><summary>{}</summary>{}</details>", line, block(text))


def encoded(text: str | None) -> SafeString | str:
    return EMPTY if text is None else block(pretty(text))


@dataclass(frozen=True, slots=True)
class ErrorText:
    """A stored error as people read it; what is not one is all message."""

    summary: str
    traceback: str

    @classmethod
    def read(cls, text: str) -> ErrorText:
        try:
            stored = json.loads(text)
        except (ValueError, RecursionError):
            stored = text
        if not isinstance(stored, dict):
            return cls(storable(text), "")
        kind, message = (str(stored.get(name) or "") for name in ("type", "message"))
        summary = ": ".join(part for part in (kind, message) if part) or text
        return cls(storable(summary), storable(str(stored.get("traceback") or "")))

    def as_block(self) -> SafeString:
        summary = shorten(self.summary, 2000)
        trace = block(self.traceback) if self.traceback else ""
        return format_html('<p class="durable-error">{}</p>{}', summary, trace)

    def folded(self) -> SafeString:
        return fold(self.summary, self.traceback or self.summary)


_HEAD = re.compile(r'\{"type": ?("[^"\\]*"), ?"message": ?"((?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*)')


def summary_of_head(head: str) -> str:
    """Type and message from the first characters of a stored error; they stand first in it."""
    found = _HEAD.match(head)
    if found is None:
        return head
    kind, message = json.loads(found[1]), json.loads(f'"{found[2]}"', strict=False)
    return storable(f"{kind}: {message}" if message else kind)


def short_summary_of_head(head: str) -> str:
    """The same with the bare name of the class."""
    path, colon, message = summary_of_head(head).partition(": ")
    return f"{path.rpartition('.')[2]}{colon}{message}"


# --- links


def link(site: AdminSite, instance: Model, text: object) -> SafeString:
    """To the page of a row, if this site has pages for its model."""
    if not site.is_registered(type(instance)):
        return format_html("{}", text)
    name = f"admin:{instance._meta.app_label}_{instance._meta.model_name}_change"
    url = reverse(name, args=[quote(instance.pk)], current_app=site.name)
    return format_html('<a href="{}">{}</a>', url, text)


def list_link(site: AdminSite, model: type[Model], text: object, **filters: Any) -> SafeString:
    """To a filtered list."""
    if not site.is_registered(model):
        return format_html("{}", text)
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    url = reverse(name, current_app=site.name)
    return format_html('<a href="{}?{}">{}</a>', url, urlencode(filters), text)
