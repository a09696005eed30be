"""Which queues a worker serves: names, patterns of names, and what is left out.

>>> serving = Serving.of(["orders", "mail*", "-mail.bulk"])
>>> serving.serves("mail.daily"), serving.serves("mail.bulk"), serving.serves("reports")
(True, False, False)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from django_durable.engine.options import check_queue_name
from django_durable.exceptions import InvalidOptionError

_PATTERN = re.compile(r"[A-Za-z0-9_*?][A-Za-z0-9_.:*?-]{0,99}")
_WILD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class Serving:
    """What a worker serves. Neither names nor patterns: every queue."""

    exact_names: tuple[str, ...] = ()
    """The queues, if all are known by name. Empty: what the patterns say."""
    patterns: tuple[str, ...] = ()
    """What it was told, if more than names: ``*``, ``?``, and a ``-`` before leaves out."""

    @classmethod
    def of(cls, told: Sequence[str], known: Sequence[str] | None = None) -> Serving:
        """What these names and patterns mean; ``known``: the only queues there are.

        Without any, or with exclusions only, it is all queues, or all but those.

        Raises: InvalidOptionError if one is malformed or fits no known queue, or nothing is left.
        """
        told = tuple(dict.fromkeys(told))
        for pattern in told:
            _check(pattern, known)
        if _leaves_nothing(told):
            raise _refusal(told, "nothing is left to serve: all of it is left out again.")
        meant = cls(patterns=told) if any(map(is_pattern, told)) else cls(exact_names=told)
        if known is None:
            return meant
        names = tuple(name for name in known if meant.serves(name))
        if not names:
            raise _refusal(told, f"of {', '.join(known)} nothing is left to serve.")
        return cls(names, meant.patterns)

    def serves(self, name: str) -> bool:
        if self.exact_names or not self.patterns:
            return not self.exact_names or name in self.exact_names
        return is_meant(name, self.patterns)

    def __str__(self) -> str:
        """As it was told, for people; empty: all."""
        return ", ".join(self.patterns or self.exact_names)


def is_pattern(text: str) -> bool:
    """Whether a text that names queues is more than one name."""
    return text.startswith("-") or _WILD.search(text) is not None


def check_pattern(text: str) -> str | None:
    """What is wrong with a name or pattern of queues, or None."""
    if not is_pattern(text):
        return check_queue_name(text)
    if _PATTERN.fullmatch(text.removeprefix("-")):
        return None
    return (
        "a pattern is a queue's name in which * stands for any characters and ? for one; "
        "a - before it leaves those queues out."
    )


def is_meant(name: str, patterns: Iterable[str]) -> bool:
    """Whether patterns include a name: one of the inclusions fits, or there are none, and no
    exclusion does."""
    included, has_inclusions = False, False
    for pattern in patterns:
        if pattern.startswith("-"):
            if _fits(pattern[1:], name):
                return False
        else:
            has_inclusions = True
            included = included or _fits(pattern, name)
    return included or not has_inclusions


def _check(pattern: str, known: Sequence[str] | None) -> None:
    if problem := check_pattern(pattern):
        raise InvalidOptionError(option="queue", value=pattern, reason=problem)
    if known is not None and not any(_fits(pattern.removeprefix("-"), name) for name in known):
        reason = f"DURABLE['QUEUES'] names {', '.join(known)}."
        raise InvalidOptionError(option="queue", value=pattern, reason=reason)


def _leaves_nothing(told: Sequence[str]) -> bool:
    """Whether each inclusion is left out again, whatever queues there are.

    An exclusion that fits an inclusion's own text fits all that the inclusion fits.
    """
    inclusions = [pattern for pattern in told if not pattern.startswith("-")]
    exclusions = [pattern[1:] for pattern in told if pattern.startswith("-")]
    return bool(exclusions) and all(
        any(_fits(exclusion, inclusion) for exclusion in exclusions)
        for inclusion in inclusions or ["*"]
    )


def _refusal(told: Sequence[str], reason: str) -> InvalidOptionError:
    return InvalidOptionError(option="queue", value=", ".join(told), reason=reason)


def _fits(pattern: str, name: str) -> bool:
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # ? fits no *, so that a pattern that fits another's text fits all that the other does
    wild = {"*": ".*", "?": "[^*]"}
    return re.compile("".join(wild.get(c) or re.escape(c) for c in pattern), re.DOTALL)
