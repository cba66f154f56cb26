# SPDX-License-Identifier: Apache-2.0
"""How far long work is: a bar on a terminal; elsewhere a line every ten seconds, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

EVERY_SECONDS = 10.0


class Progress(Protocol):
    """What long work reports to."""

    def start(self, label: str, total: int) -> None: ...

    def advance(self, note: str) -> None: ...

    def say(self, line: str) -> None: ...


class Quiet:
    """Reports nothing; for tests and library use."""

    def start(self, label: str, total: int) -> None:
        pass

    def advance(self, note: str) -> None:
        pass

    def say(self, line: str) -> None:
        pass


def out(line: str) -> None:
    """A line on standard output, at once: who reads a pipe waits for it."""
    print(line, flush=True)


def err(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Lines:
    """For a pipe or a log: how far the work is goes to `tell`, a line every EVERY_SECONDS of `clock`; what is said to `say`."""

    def __init__(
        self, say: Callable[[str], None] = out, tell: Callable[[str], None] = err, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.say, self._tell, self._clock = say, tell, clock
        self._label, self._done, self._total, self._began, self._told = "", 0, 0, 0.0, clock()

    def start(self, label: str, total: int) -> None:
        self._label, self._done, self._total, self._began = label, 0, total, self._clock()

    def advance(self, note: str) -> None:
        self._done += 1
        now = self._clock()
        if now - self._told < EVERY_SECONDS:
            return
        self._told = now
        seconds = (now - self._began) / self._done * (self._total - self._done)
        left = f", about {timedelta(seconds=round(seconds))} left" if seconds > 0 else ""
        self._tell(f"{self._label}  {self._done:,} of {self._total:,}{left}{f'  {note}' if note else ''}")


@contextmanager
def training_bar(say: Callable[[str], None] = out) -> Iterator[Progress]:
    """A bar with the running note (loss, accuracy) and the time left on a terminal; lines where standard error is none.

    What the work says on its way goes to `say`.
    """
    if not sys.stderr.isatty():
        yield Lines(say)
        return
    from rich import progress
    from rich.console import Console

    note, label = progress.TextColumn("{task.fields[note]}"), progress.TextColumn("{task.description}")
    columns = (label, progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn(), note)
    shared = sys.stdout.isatty()                          # a line of text then has to go above the bar
    with progress.Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=shared) as rich:

        class Bar:
            task: progress.TaskID | None = None

            def start(self, label: str, total: int) -> None:
                if self.task is not None:
                    rich.remove_task(self.task)
                self.task = rich.add_task(label, total=total, note="")

            def advance(self, note: str) -> None:
                if self.task is not None:
                    rich.update(self.task, advance=1, note=note)

            def say(self, line: str) -> None:
                say(line)

        yield Bar()
