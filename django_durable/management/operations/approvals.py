"""``durable approvals``, ``approve`` and ``reject``: what jobs ask people, and an answer to it."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from django_durable.approvals import answer_approval, open_approvals
from django_durable.engine import answering
from django_durable.engine.rows import approvals as approval_rows
from django_durable.engine.states import ApprovalState
from django_durable.exceptions import ApprovalError
from django_durable.management.operations.operation import Operation, Options, not_blank, positive
from django_durable.management.operations.output import Output, age
from django_durable.management.operations.reading import database_now, jobs_alias

if TYPE_CHECKING:
    from django_durable.models import Approval

DEFAULT_LIMIT = 20
HEADERS = ["ID", "QUESTION", "STATE", "WHO", "AGE", "DEADLINE", "JOB"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalSummary:
    """A question, as a table and a document show it."""

    id: int
    title: str
    state: str
    group_name: str | None
    permission: str | None
    subject_type: str | None
    subject_key: str | None
    requested_at: datetime
    deadline_at: datetime | None
    answered_by_name: str | None
    answered_at: datetime | None
    job_id: UUID


def summary_of(approval: Approval) -> ApprovalSummary:
    return ApprovalSummary(**{n: getattr(approval, n) for n in ApprovalSummary.__slots__})


def find_user(name: str) -> Any:
    """A user by the name they log in with. Raises: CommandError."""
    users: Any = get_user_model()
    try:
        return users._default_manager.get_by_natural_key(name)
    except users.DoesNotExist:
        raise CommandError(f'There is no user "{name}".') from None


# --- looking


def run_list(output: Output, options: Options) -> None:
    now, limit = database_now(), options["limit"]
    if options["user"] and options["closed"]:
        raise CommandError("Closed ones can be answered by nobody: --user or --closed, not both.")
    if options["user"]:
        rows = open_approvals(find_user(options["user"]))
    elif options["closed"]:
        rows = approval_rows(jobs_alias()).judged().order_by("-pk")
    else:
        rows = approval_rows(jobs_alias()).open().order_by("requested_at", "pk")
    found = [summary_of(row) for row in rows.defer("answer")[: limit + 1]]
    shown, is_complete = found[:limit], len(found) <= limit
    if output.as_json:
        output.document({"now": now, "is_complete": is_complete, "approvals": shown})
    elif not shown:
        output.line("No such approvals.")
    else:
        output.table(HEADERS, [_line(row, now) for row in shown])
        if not is_complete:
            output.line(f"There are more: --limit {limit * 10} shows them.")


def _line(row: ApprovalSummary, now: datetime) -> list[object]:
    who = f"group {row.group_name}" if row.group_name else row.permission
    deadline = age(row.deadline_at, now)
    return [row.id, row.title, row.state, who, age(row.requested_at, now), deadline, row.job_id]


def add_list_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--user", type=not_blank, metavar="NAME", help="only those this user may answer now")
    add("--closed", action="store_true", help="closed ones too, the latest first")
    add(
        "--limit",
        type=positive,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"how many at most (default: {DEFAULT_LIMIT})",
    )


# --- answering


def run_approve(output: Output, options: Options) -> None:
    _answer(output, options, approved=True, data=options["data"])


def run_reject(output: Output, options: Options) -> None:
    _answer(output, options, approved=False, data={"reason": options["reason"]})


def _answer(output: Output, options: Options, *, approved: bool, data: dict[str, Any]) -> None:
    user = find_user(options["user"])
    try:
        answered = answer_approval(options["approval"], user, approved=approved, data=data)
    except ApprovalError as error:
        raise CommandError(str(error)) from error
    if output.as_json:
        output.document(summary_of(answered))
        return
    word = ApprovalState(answered.state).label
    output.line(f'"{answered.title}" is {word} in the name of {answering.name_of(user)}.')


def json_object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"it is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ArgumentTypeError('it must be an object: {"field": "value"}')
    return data


def _add_answer_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("approval", type=positive_id, metavar="ID", help="the approval, as the list names it")
    add("--user", type=not_blank, required=True, metavar="NAME", help="in whose name")


def positive_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ArgumentTypeError(f"{text!r} is no approval's id.")
    return int(text)


def add_approve_arguments(parser: ArgumentParser) -> None:
    _add_answer_arguments(parser)
    parser.add_argument(
        "--data",
        type=json_object,
        default={},
        metavar="JSON",
        help="what the form is filled in with, by the names of its fields",
    )


def add_reject_arguments(parser: ArgumentParser) -> None:
    _add_answer_arguments(parser)
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; it is kept")


OPERATIONS = (
    Operation(
        name="approvals",
        help="what jobs ask people, those that wait longest first",
        add_arguments=add_list_arguments,
        run=run_list,
    ),
    Operation(
        name="approve",
        help="answer yes to what a job asks, in a user's name and with that user's rights",
        add_arguments=add_approve_arguments,
        run=run_approve,
    ),
    Operation(
        name="reject",
        help="answer no to what a job asks, in a user's name and with that user's rights",
        add_arguments=add_reject_arguments,
        run=run_reject,
    ),
)
