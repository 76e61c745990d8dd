"""Ctrl-C and SIGTERM: a command puts away what is half done; a run finishes its step and writes a checkpoint first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType


class Stopped(KeyboardInterrupt):
    """A run ended early because it was asked to; the message says what was kept. ``signal`` is the signal's number."""

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.signal = number


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Within this context SIGTERM raises an exception, as Ctrl-C does: half-written files are then removed."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped("stopped", number)

    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within this context nothing is raised because a worker has died: torch's handler does so wherever Python is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


class StopRequests:
    """Within this context SIGINT and SIGTERM only set ``requested``; a second one interrupts at once."""

    def __init__(self) -> None:
        self.requested = 0
        self._patient = True
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this one, around work that takes long and leaves nothing to keep, the first one interrupts as well."""
        self._patient = False
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._patient = True

    def _request(self, number: int, _frame: FrameType | None) -> None:
        again, self.requested = self.requested, self.requested or number
        if again or not self._patient:
            raise KeyboardInterrupt
