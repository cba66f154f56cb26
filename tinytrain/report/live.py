# SPDX-License-Identifier: Apache-2.0
"""Progress bars, on a terminal only: elsewhere one line an epoch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


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


class _Lines(Quiet):
    def say(self, line: str) -> None:
        print(line, flush=True)


@contextmanager
def training_bar() -> Iterator[Progress]:
    """A bar with the running note (loss, accuracy) and the time left; plain lines where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich import progress
    from rich.console import Console

    note, label = progress.TextColumn("{task.fields[note]}"), progress.TextColumn("{task.description}")
    columns = (label, progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn(), note)
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as rich:

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
                rich.console.print(line, highlight=False)

        yield Bar()
