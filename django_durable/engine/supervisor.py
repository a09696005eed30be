"""The supervisor: starts worker processes, replaces those that end, and stops them all.

It runs no job, and holds no database connection and no thread. Each worker process is a fresh
interpreter with the supervisor's own command line, not a fork of it: what the project's code opened
or started while it was imported (connections, threads, locks) would be shared or half dead after a
fork, macOS forbids much after one, and a new interpreter brings new code.

Words travel over a ``leash``; a worker process that reads its end stops by itself, so none is left
when the supervisor is killed.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType

from django_durable.engine import leash
from django_durable.engine.boot import NotReadyError
from django_durable.engine.clock import machine_seconds
from django_durable.engine.reloading import CodeFiles
from django_durable.engine.wear import EXIT_AGAIN

logger = logging.getLogger("django_durable")

STEADY_SECONDS = 10.0
"""A process that ended later than this did not end at once."""
CODE_SECONDS = 0.5
LONGEST_WAIT = 3600.0
"""The system counts milliseconds in 31 bits."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
SPARE_STARTS = 2
"""How many starts beyond one for each process may fail in a row before none is tried any more."""
MERCY_SECONDS = 10.0
"""How long a process may take to end after the grace, or after it was told to stop at once."""


@dataclass(slots=True, eq=False)
class Process:
    """A worker process, from its start to its end."""

    popen: subprocess.Popen[bytes]
    line: socket.socket
    started: float = field(default_factory=machine_seconds)
    is_ready: bool = False
    is_told: bool = False
    """Told to stop, so that another one takes its place."""
    kill_at: float = float("inf")

    def listen(self) -> bool:
        """Take in what it says; whether it may say more."""
        try:
            word = self.line.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.is_ready |= leash.READY in word
        return bool(word)

    def tell(self, word: bytes) -> None:
        try:
            self.line.sendall(word)
        except OSError:  # it is dead; its end is on the way
            return

    def send_signal(self, number: int) -> None:
        """Not by the methods of Popen, which would collect a dead process unnoticed."""
        os.kill(self.popen.pid, number)


@dataclass(slots=True, eq=False)
class Place:
    """Where one worker process lives, and its successors after it."""

    number: int
    process: Process | None = None
    bad_ends: int = 0
    """Bad ends in a row, each soon after the start."""
    start_at: float = 0.0
    is_done: bool = False

    def __str__(self) -> str:
        return f"worker process {self.number}"


@dataclass(eq=False)
class Supervisor:
    """``command``: starts one worker process, given ``--child`` and its end of the leash besides.

    ``burst``: a process that ends in good order is not replaced. ``code``: if somebody works on it,
    a process that cannot start is tried again when they have changed it, for ever.
    """

    command: Sequence[str]
    processes: int
    grace: timedelta
    burst: bool = False
    code: CodeFiles | None = None
    _places: list[Place] = field(init=False)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _signals: list[int] = field(default_factory=list)
    _has_terminal: bool = field(default_factory=lambda: os.isatty(0))
    _bell: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    _stops: int = 0
    _to_replace: list[Process] = field(default_factory=list)
    _failed_starts: int = 0
    _ended_badly: bool = False
    _defeat: str = ""

    # --- the story

    def run(self) -> int:
        """Until all have ended; the exit code: 0 if all stopped in good order, else 1.

        Raises: NotReadyError if none can be started.
        """
        self._listen_to_signals()
        self._places = [Place(number) for number in range(1, self.processes + 1)]
        logger.info("Process %s supervises %s worker process(es).", os.getpid(), self.processes)
        while not self._is_over():
            self._start_due()
            self._replace_next()
            self._kill_late()
            self._wait()
            self._obey()
            self._note_ends()
        if self._defeat:
            raise NotReadyError(reason=self._defeat)
        logger.info("All worker processes have ended.")
        return int(self._ended_badly)

    def _is_over(self) -> bool:
        return not self._living() and bool(
            self._stops or all(place.is_done for place in self._places)
        )

    def _living(self) -> list[Process]:
        return [place.process for place in self._places if place.process]

    # --- starting

    def _start_due(self) -> None:
        for place in self._vacant():
            if self._stops:
                return  # given up, on the way
            is_mended = place.bad_ends and self.code and self.code.have_changed()
            if is_mended or place.start_at <= machine_seconds():
                self._start(place)

    def _vacant(self) -> list[Place]:
        if self._stops:
            return []
        return [place for place in self._places if not place.process and not place.is_done]

    def _start(self, place: Place) -> None:
        """In a process group of its own, so that Ctrl-C reaches the supervisor alone."""
        if self.code:
            self.code.note()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                popen = subprocess.Popen(
                    [*self.command, "--child", f"{place.number}:{theirs.fileno()}"],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
            except OSError as error:
                ours.close()
                self._note_failed_start(place, str(error))
                return
        place.process = Process(popen, ours)
        self._selector.register(ours, selectors.EVENT_READ, place.process)
        logger.info("Started %s as process %s.", place, popen.pid)

    # --- what happens

    def _listen_to_signals(self) -> None:
        """Signals are noted, and end the waiting; a hang-up that is ignored stays so (nohup)."""
        for end in self._bell:
            end.settimeout(0)
        self._selector.register(self._bell[0], selectors.EVENT_READ, None)
        signal.set_wakeup_fd(self._bell[1].fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._signals.append(number)

    def _wait(self) -> None:
        """Until a signal, a word from a process, or the time for something."""
        for key, _ in self._selector.select(self._seconds_to_next()):
            process: Process | None = key.data
            if process is None:
                self._bell[0].recv(4096)
            elif not process.listen():
                self._selector.unregister(process.line)
            elif process.is_ready:
                self._failed_starts = 0

    def _seconds_to_next(self) -> float:
        kills = [process.kill_at for process in self._living()]
        times = [*kills, *(place.start_at for place in self._vacant())]
        seconds = max(0.0, min(times, default=0.0) - machine_seconds())
        return min(seconds, CODE_SECONDS if self.code and self._vacant() else LONGEST_WAIT)

    # --- ending

    def _note_ends(self) -> None:
        """Collect who has ended: as process number 1 also strangers whose parents are gone."""
        for pid, code in ended_children():
            for place in self._places:
                if place.process and place.process.popen.pid == pid:
                    self._note_end(place, place.process, code)

    def _note_end(self, place: Place, process: Process, code: int) -> None:
        process.popen.returncode = code
        place.process = None
        if process.line in self._selector.get_map():
            process.listen()
            self._selector.unregister(process.line)
        process.line.close()
        if self._stops:
            self._ended_badly |= process.is_ready and code not in (0, EXIT_AGAIN)
        elif process.is_told and not process.is_ready:
            logger.info("%s (process %s) was replaced unready.", place, process.popen.pid)
        elif process.is_ready and code in (0, EXIT_AGAIN):
            place.bad_ends = 0
            place.is_done = self.burst and code == 0 and not process.is_told
            logger.info("%s (process %s) ended in good order.", place, process.popen.pid)
        else:
            self._note_bad_end(place, process, code)

    def _note_bad_end(self, place: Place, process: Process, code: int) -> None:
        if not process.is_ready:
            self._note_failed_start(place, f"process {process.popen.pid}, {describe(code)}")
            return
        if machine_seconds() - process.started > STEADY_SECONDS:
            place.bad_ends = 0
        self._postpone(place, f"ended badly (process {process.popen.pid}, {describe(code)})")

    def _postpone(self, place: Place, what: str, *, least: float = 0.0) -> None:
        place.bad_ends += 1
        pause = max(least, pause_after(place.bad_ends))
        place.start_at = machine_seconds() + pause
        logger.error("%s %s. Starting another in %g s.", place, what, pause)

    def _note_failed_start(self, place: Place, why: str) -> None:
        self._failed_starts += 1
        self._postpone(place, f"could not start ({why})", least=LONGEST_PAUSE if self.code else 0)
        is_any_ready = any(process.is_ready for process in self._living())
        if self._failed_starts >= self.processes + SPARE_STARTS and not (is_any_ready or self.code):
            self._defeat = (
                f"No worker process can be started: {self._failed_starts} in a row ended before "
                "they were ready. What they said stands above."
            )
            self._stop()

    # --- obeying

    def _obey(self) -> None:
        while self._signals:
            if self._signals.pop(0) == signal.SIGHUP and not self._has_terminal:
                logger.info("Replacing all worker processes, one after the other.")
                self._to_replace = self._living()
            else:
                self._stop()

    def _stop(self) -> None:
        """First in good order, then at once; what is not at work yet need not get there."""
        self._stops += 1
        logger.info("Stopping all worker processes%s.", " at once" if self._stops > 1 else "")
        grace = self.grace.total_seconds() if self._stops == 1 else 0.0
        for process in self._living():
            word = leash.STOP if self._stops == 1 else leash.AT_ONCE
            self._tell_to_stop(process, grace, word)

    def _replace_next(self) -> None:
        """Tell the next one to stop, if all successors are ready; first who is not at work yet."""
        living = self._living()
        left = [process for process in self._to_replace if process in living]
        self._to_replace = sorted(left, key=lambda process: process.is_ready)
        is_one_on_its_way = self._vacant() or any(
            process.is_told or not (process.is_ready or process in left) for process in living
        )
        if left and not is_one_on_its_way:
            told = self._to_replace[0]
            told.is_told = True
            self._tell_to_stop(told, self.grace.total_seconds(), leash.STOP)

    def _tell_to_stop(self, process: Process, grace: float, word: bytes) -> None:
        """Not at work yet, it does not listen, and has nothing to bring to an end."""
        process.kill_at = machine_seconds() + grace + MERCY_SECONDS
        process.tell(word)
        if not process.is_ready:
            process.send_signal(signal.SIGTERM)

    def _kill_late(self) -> None:
        for process in self._living():
            if machine_seconds() < process.kill_at:
                continue
            process.kill_at = float("inf")
            logger.error("Process %s does not stop, and is killed.", process.popen.pid)
            process.send_signal(signal.SIGKILL)


def pause_after(bad_ends: int) -> float:
    """Seconds before the next start: none after the first bad end, then ever more."""
    if bad_ends <= 1:
        return 0.0
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(bad_ends - 2, 20)))


def describe(code: int) -> str:
    """A process's exit code in words; -9 is signal 9."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def ended_children() -> Iterator[tuple[int, int]]:
    """The (process id, exit code) of every child that has ended by now."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)
