"""What one operation of ``manage.py durable`` is made of."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django_durable.engine.options import check_queue_name
from django_durable.management.operations.output import Output

Options = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A subcommand: its options, and what it does with them."""

    name: str
    help: str
    run: Callable[[Output, Options], None]
    """Raises: CommandError, after having said all there is to say."""
    add_arguments: Callable[[ArgumentParser], None] = lambda parser: None
    needs_migrations: bool = True


# --- kinds of arguments


def queue_name(text: str) -> str:
    if problem := check_queue_name(text):
        raise ArgumentTypeError(f"{text!r}: {problem}")
    return text


def not_blank(text: str) -> str:
    if not text.strip():
        raise ArgumentTypeError("it must not be empty or blank.")
    return text


def positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1_000_000:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000.")
    return int(text)
