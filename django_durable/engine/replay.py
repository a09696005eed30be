"""Which recorded checkpoint belongs to which call: identities, and the rules of a match.

An identity is ``scope/name#n``: the n-th call of that name in its scope. The first call has no
``#1``, calls of the task itself no scope, and a step with a key is ``name[key]``. Names are
compared, never positions, so removed and reordered steps find their checkpoints. A branch is a
scope of its own, ``gather/0/``, so it does not matter which of several ends first. A step that was
undone only keeps its place: it runs anew, and nobody expects it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from django_durable.exceptions import (
    ConcurrentStepsError,
    DuplicateStepNameError,
    DurableError,
    TaskDefinitionError,
)

STARTED, RETRYING, SUCCESSFUL, FAILED = "STARTED", "RETRYING", "SUCCESSFUL", "FAILED"
COMPENSATED = "COMPENSATED"
FINAL = frozenset({SUCCESSFUL, FAILED})
LONGEST_NAME, LONGEST_KEY = 200, 120  # characters; identities live in an index
_RESERVED = "/#[]"
_ESCAPES = {ord(c): f"%{ord(c):02X}" for c in "%/#[]\x00"}


class ReplayMismatch(DurableError):  # noqa: N818 (blocks a job, never reaches user code)
    """The code and the recorded checkpoints differ, and nobody can tell which is right."""

    message = "expected {expected}; found {found}"


@dataclass(slots=True, kw_only=True)
class Recorded:
    """A checkpoint as it was loaded or saved. Texts are encoded values."""

    identity: str
    seq: int
    kind: str
    state: str
    lease_token: int
    fingerprint: str | None = None
    attempt: int = 1
    value: str | None = None
    error: str | None = None
    started_at: datetime | None = None
    saved_at: datetime | None = None
    """None if this run saved it."""
    next_attempt_at: datetime | None = None
    wait_key: str | None = None
    compensation: str | None = None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def place(self) -> str:
        """Where the call stands: as its identity says, but a child may be awaited anywhere."""
        if self.kind != CHILD or self.fingerprint is None:
            return self.identity
        return self.fingerprint + self.identity.rpartition("/")[2]

    @property
    def is_taken_message(self) -> bool:
        """Whether it is the end of a wait for an event that was sent to this job, not copied."""
        is_own = self.kind == "event" and self.lease_token != COPIED
        return is_own and self.identity.rpartition("/")[2].startswith(MAILBOX) and self.is_final


def check_name(name: object, *, what: str = "step") -> str:
    """The name, if it can be part of an identity. Raises: TaskDefinitionError."""
    if not isinstance(name, str) or not name.strip():
        raise TaskDefinitionError(name=name, reason=f"a {what} name must not be empty.")
    if len(name) > LONGEST_NAME:
        reason = f"a {what} name must not have more than {LONGEST_NAME} characters."
        raise TaskDefinitionError(name=name, reason=reason)
    if name.startswith(COMPENSATION):
        reason = f"a {what} name must not begin with {COMPENSATION}."
        raise TaskDefinitionError(name=name, reason=reason)
    if bad := [c for c in name if c in _RESERVED or c == "\x00" or "\ud800" <= c <= "\udfff"]:
        reason = f"a {what} name must not contain {bad[0]!r}."
        raise TaskDefinitionError(name=name, reason=reason)
    return name


def keyed(name: str, key: object) -> str:
    """``name[key]``: escaped, so that no two identities look alike; long ones by their digest."""
    text = str(key).translate(_ESCAPES)
    if len(text) > LONGEST_KEY:
        text = f"{text[:40]}...{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:32]}"
    return f"{name}[{text}]"


@dataclass(slots=True)
class Scope:
    """One straight line of durable calls: a task's own, or that of a parallel branch.

    ``unreached`` are the recorded identities this run has not met, with their seq; a composite such
    as ``gather`` stands there for all that is recorded in its branches.
    """

    path: str = ""
    parent: "Scope | None" = None
    calls: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    functions: dict[str, Any] = field(default_factory=dict)
    unreached: dict[str, int] = field(default_factory=dict)
    recorded_bases: set[str] = field(default_factory=set)
    furthest: int = 0
    last_recorded: int = 0
    last_copied: int = 0
    """Of a fork: the last one recorded here that is its source's."""
    has_new: bool = False
    """Whether this run has begun a call here that no checkpoint is known of."""
    busy: str | None = None
    ending: Any = None
    """Why this branch stands still, once it does."""
    abandon: Callable[[], None] | None = None
    """Lets the job go on without the thread of this branch, if it has one of its own."""
    is_abandoned: bool = False

    def find_ending(self) -> Any:
        """Why this branch stands still, or one that it is a part of; None if it goes on."""
        return self.ending or (self.parent.find_ending() if self.parent is not None else None)

    def identify(self, name: str) -> str:
        """The identity of the next call of this name."""
        self.calls[name] += 1
        n = self.calls[name]
        return f"{self.path}{name}" if n == 1 else f"{self.path}{name}#{n}"

    def bind(self, name: str, function: Any) -> None:
        """Hold a name to one function. Raises: DuplicateStepNameError."""
        known = self.functions.setdefault(name, function)
        if known is not function and same_function(known) is not same_function(function):
            raise DuplicateStepNameError(
                step=name, first=describe(known), second=describe(function)
            )

    def enter(self, call: str) -> None:
        """Take the scope for one durable call. Raises: ConcurrentStepsError."""
        if self.busy is not None:
            raise ConcurrentStepsError(call=call, other=self.busy)
        self.busy = call

    def leave(self) -> None:
        self.busy = None

    def note(self, identity: str, seq: int) -> None:
        """Expect a recorded identity, or the composite that holds it."""
        self.unreached[identity] = min(seq, self.unreached.get(identity, seq))

    def reach(self, identity: str, seq: int = 0) -> None:
        """The run has come to this recorded identity."""
        self.furthest = max(self.furthest, seq, self.unreached.pop(identity, 0))

    def has_unreached(self) -> bool:
        """Whether anything recorded is left that the run has not met, here or around it."""
        return bool(self.unreached) or (self.parent is not None and self.parent.has_unreached())

    def ahead(self) -> list[str]:
        """The recorded identities behind the furthest one reached, the nearest first."""
        ahead = [i for i, seq in self.unreached.items() if seq > self.furthest]
        return sorted(ahead, key=self.unreached.__getitem__)

    def is_replaying(self) -> bool:
        """Whether recorded checkpoints, keyed ones too, are still ahead, here or around it."""
        is_here = self.furthest < self.last_recorded
        return is_here or (self.parent is not None and self.parent.is_replaying())

    def is_repeating(self) -> bool:
        """The same, until something new has begun: what is ahead by then may never be reached."""
        return self.is_replaying() and not self.has_new

    def repeats_source(self) -> bool:
        """Whether checkpoints that a fork has of its source are still ahead; here or around."""
        is_here = self.furthest < self.last_copied
        return is_here or (self.parent is not None and self.parent.repeats_source())


class History:
    """The checkpoints of one job, and how far this run has come through them."""

    def __init__(
        self,
        records: Iterable[Recorded],
        *,
        allowed_steps: Iterable[str] = (),
        root_path: str = "",
    ) -> None:
        self.records = {record.identity: record for record in records}
        self._allowed = frozenset(allowed_steps)
        last = max((record.seq for record in self.records.values()), default=0)
        self._seqs = count(last + 1)
        self._scopes: dict[str, Scope] = {}
        self.undone: defaultdict[str, int] = defaultdict(int)
        """How often each step was undone, by its identity."""
        self.root = self.scope(root_path)
        self.enqueued_by_source: dict[str, str] = {}
        """In a fork: the ids of the jobs that its source enqueued between its steps, by origin."""
        if self.records:
            self._expect_all()

    def _expect_all(self) -> None:
        for record in self.records.values():
            self._expect(record)
        copied = [r.seq for r in self.records.values() if r.lease_token == COPIED]
        self._end_scopes(max(copied, default=0))

    def _end_scopes(self, last_copied: int) -> None:
        """Let scopes know how far they go, with the composites in them."""
        for scope in self._scopes.values():
            seqs = list(scope.unreached.values())
            scope.last_recorded = max([scope.last_recorded, *seqs])
            copied = [seq for seq in seqs if seq <= last_copied]
            scope.last_copied = max([scope.last_copied, *copied])

    def scope(self, path: str, parent: Scope | None = None) -> Scope:
        """The scope of a path, the same one for the whole run."""
        return self._scopes.setdefault(path, Scope(path, parent))

    def _expect(self, record: Recorded) -> None:
        """Put a record into its scope, and the composites it lies in into theirs."""
        if record.kind == FORK:
            made = json.loads(record.value or "{}")
            self.enqueued_by_source = {origin: job_id for origin, (job_id, _) in made.items()}
            return
        inner = record.place.removeprefix(self.root.path)
        if inner.startswith(COMPENSATION):
            self.undone[undone_by(inner)] += record.state == SUCCESSFUL
            return
        if record.state == COMPENSATED or not record.identity.startswith(self.root.path):
            return
        *composites, name = inner.split("/")
        scope = self.root
        for composite, branch in zip(composites[::2], composites[1::2], strict=False):
            scope.note(scope.path + composite, record.seq)
            scope = self.scope(f"{scope.path}{composite}/{branch}/", scope)
        name = name.partition("#")[0]
        scope.recorded_bases.add(base_name(name))
        if record.kind == PATCH:
            return
        scope.last_recorded = max(scope.last_recorded, record.seq)
        if record.lease_token == COPIED:
            scope.last_copied = max(scope.last_copied, record.seq)
        if "[" not in name:
            scope.note(record.identity, record.seq)

    def next_seq(self) -> int:
        return next(self._seqs)

    def find(
        self, scope: Scope, identity: str, *, kind: str, fingerprint: str | None
    ) -> Recorded | None:
        """The checkpoint of this call, or None: it never ended, and may run.

        Raises: ReplayMismatch if the call is not the recorded one, or is new where recorded ones
        are still ahead.
        """
        record = self.records.get(identity)
        if record is None:
            self.check_new(scope, identity)
            scope.has_new = True
            return None
        if record.state == COMPENSATED:
            scope.has_new = True
            return record
        scope.reach(identity, record.seq)
        if record.kind != kind:
            raise ReplayMismatch(
                expected=f"{describe_kind(record.kind)} at {identity} (recorded)",
                found=f"{describe_kind(kind)} (in the code)",
            )
        if None not in (fingerprint, record.fingerprint) and record.fingerprint != fingerprint:
            raise ReplayMismatch(
                expected=f"{identity} with the arguments {record.fingerprint} (recorded)",
                found=f"{fingerprint} (this run). If they may differ: @step(key=...) or "
                "match_arguments=False",
            )
        return record

    def check_new(self, scope: Scope, identity: str) -> None:
        """Raises: ReplayMismatch if recorded checkpoints are still ahead of this new call."""
        if not scope.has_unreached():
            return
        name = identity.removeprefix(scope.path).partition("#")[0]
        base = base_name(name)
        known_key = base != name and base in scope.recorded_bases
        if known_key or self.allows(base, name, identity):
            return
        within: Scope | None = scope
        while within is not None:
            if ahead := [i for i in within.ahead() if i != identity]:
                raise ReplayMismatch(
                    expected=f"{ahead[0]} (recorded, not reached yet)",
                    found=f"{identity}, which has no checkpoint: a new step, or a renamed one",
                )
            within = within.parent

    def allows(self, *names: str) -> bool:
        """Whether an operator allowed one of these to run without a checkpoint."""
        return not self._allowed.isdisjoint(names)

    def scope_of(self, identity: str) -> Scope:
        """The scope in which a call of this run stood."""
        return self.scope(_path_of(identity))

    def is_last(self, record: Recorded) -> bool:
        """Whether nothing was recorded after it in its scope, its branches, or around it."""
        here = _path_of(record.place)
        paths = [_path_of(one.place) for one in self.records.values() if one.seq > record.seq]
        return not any(path.startswith(here) or here.startswith(path) for path in paths)

    def forget(self, identities: Iterable[str]) -> None:
        for identity in identities:
            del self.records[identity]

    def add(self, record: Recorded) -> None:
        self.records.pop(record.identity, None)  # the last one saved is to be the last one here
        self.records[record.identity] = record


def _path_of(identity: str) -> str:
    return identity[: identity.rfind("/") + 1]


def life_path(continued_count: int) -> str:
    """The root scope's path in a life of a job, so that no two lives share an identity."""
    return f"continued{continued_count}/" if continued_count else ""


COMPENSATION, PATCH, FORK = "compensation@", "patch", "fork"
MAILBOX = "event:"
"""How the name of a wait for an event sent to the job begins."""
ENQUEUE = "enqueue"
"""The kind of the checkpoint of a call to enqueue that met another job in its way."""
CHILD = "child"
"""The kind of the checkpoint of a child's end; its fingerprint is the scope that awaits it."""
COPIED = 0
"""The lease token of the checkpoints that a fork has of its source: no claim of it has this one."""
MARKERS = frozenset({PATCH, FORK})
"""Kinds of checkpoints that are no call whose outcome a replay must come to."""


def undoing(identity: str, attempt: int) -> str:
    """The identity of the compensation of a step, at the end of an attempt."""
    return f"{COMPENSATION}{attempt}/{identity}"


def undone_by(compensation: str) -> str:
    """The identity of the step that this compensation undoes."""
    return compensation.partition("/")[2]


def same_function(function: Any) -> Any:
    """What two objects have in common if they are the same function made twice."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    return getattr(function, "__code__", None) or type(function)


def base_name(name: str) -> str:
    """The name without the key: ``send`` of ``send[42]``."""
    return name.partition("[")[0]


def describe_kind(kind: str) -> str:
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{article} {kind.replace('_', '-')} step" if kind in STEP_KINDS else f"{article} {kind}"


STEP_KINDS = ("plain", "atomic", "at_most_once")


def describe(function: Any) -> str:
    """A function's path, for people."""
    qualname = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}.{qualname}"
