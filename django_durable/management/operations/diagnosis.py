"""``durable doctor``: what is wrong with the settings, the server, the workers and the jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from django.core import checks
from django.core.management.base import CommandError
from django.db import OperationalError, connections

from django_durable.checks import OLDEST_POSTGRESQL, configured_options
from django_durable.conf import find_problems
from django_durable.engine.boot import NotReadyError, check_migrations
from django_durable.management.operations import invariants, server
from django_durable.management.operations.finding import FAIL, OK, WARN, Finding, say_cure
from django_durable.management.operations.operation import Operation, Options
from django_durable.management.operations.output import Output, count_of, printable
from django_durable.management.operations.reading import jobs_alias


def diagnose() -> list[Finding]:
    """All findings; none after the first thing without which nothing more can be looked at."""
    found: list[Finding] = []
    for examination in EXAMINATIONS:
        examined = list(examination())
        found += examined
        if examination in FUNDAMENTAL and any(finding.level == FAIL for finding in examined):
            break
    return found


def settings_are_sound() -> Iterator[Finding]:
    problems = find_problems(configured_options())
    for problem in problems:
        cure = "mend DURABLE in the settings; the reference lists its keys."
        yield Finding(code="settings", level=FAIL, says=problem, cure=cure)
    if not problems:
        yield Finding(code="settings", says="Each key of DURABLE has a value that fits.")


def checks_pass() -> Iterator[Finding]:
    """Django's system checks of this app, but for those that ask the database."""
    messages = checks.run_checks(tags=["durable"])
    for message in messages:
        level = FAIL if message.is_serious() else WARN
        code = message.id or "check"
        yield Finding(code=code, level=level, says=message.msg, cure=message.hint)
    if not messages:
        yield Finding(code="checks", says="The system checks of django_durable pass.")


def database_answers() -> Iterator[Finding]:
    alias = jobs_alias()
    connection = connections[alias]
    try:
        connection.ensure_connection()
    except OperationalError as error:
        yield Finding(
            code="database",
            level=FAIL,
            says=f"Database {alias!r} does not answer: {error}",
            cure=f"see that the server runs and that DATABASES[{alias!r}] names it.",
        )
        return
    version = connection.get_database_version() if connection.vendor == "postgresql" else (0,)
    what = f"Database {alias!r} is {connection.display_name} {'.'.join(map(str, version))}."
    if version[0] < OLDEST_POSTGRESQL:
        cure = f"django_durable needs PostgreSQL {OLDEST_POSTGRESQL} or newer."
        yield Finding(code="database", level=FAIL, says=what, cure=cure)
        return
    yield Finding(code="database", says=what)


def migrations_are_applied() -> Iterator[Finding]:
    try:
        check_migrations(jobs_alias())
    except NotReadyError as error:
        yield Finding(code="migrations", level=FAIL, says=str(error), cure="manage.py migrate")
    else:
        yield Finding(code="migrations", says="All migrations are applied.")


FUNDAMENTAL = (settings_are_sound, database_answers, migrations_are_applied)
EXAMINATIONS: Sequence[Callable[[], Iterator[Finding]]] = (
    *FUNDAMENTAL,
    checks_pass,
    *server.EXAMINATIONS,
    *invariants.EXAMINATIONS,
)


def run(output: Output, options: Options) -> None:
    """Raises: CommandError if anything is wrong; a warning is not."""
    findings = diagnose()
    wrong = [finding for finding in findings if finding.level == FAIL]
    if output.as_json:
        output.document({"is_healthy": not wrong, "findings": findings})
    else:
        _say(output, findings)
    if wrong:
        raise CommandError(f"{count_of(len(wrong), 'thing')} wrong.")


def _say(output: Output, findings: Sequence[Finding]) -> None:
    width = max(len(finding.code) for finding in findings)
    for finding in findings:
        level = output.paint(f"{finding.level:<4}")
        output.line(f"{level}  {finding.code:<{width}}  {printable(finding.says)}")
        say_cure(output, finding, indent=" " * (width + 8))
    counts = {level: sum(f.level == level for f in findings) for level in (OK, WARN, FAIL)}
    output.line()
    output.line(", ".join(f"{count} {level}" for level, count in counts.items()))


OPERATION = Operation(
    name="doctor",
    help="say what is wrong, each with its cure; exit code 1 if anything is",
    run=run,
    needs_migrations=False,
)
