# SPDX-License-Identifier: Apache-2.0
"""A transport to a program of this computer that speaks the link protocol on its standard input and output."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from typing import IO

from tinytrain.errors import DeviceError, ToolError

LIFETIME_SECONDS = 6 * 3600                               # nothing that is started here outlives this, whatever happens to its parent
_CHUNK = 1 << 16


class ProcessTransport:
    """Starts `command` in a process group of its own; `close`, the end of this object or of Python ends the whole group.

    Where setpriv is there (Linux), that holds for the end of the thread that opened it too, and when Python is killed.
    """

    doubt = ""

    def __init__(self, name: str, command: Sequence[str], lifetime: float = LIFETIME_SECONDS) -> None:
        self.name = name
        program = shutil.which(command[0])
        if program is None:
            raise ToolError(f"{command[0]} is not an executable program; it speaks for {name}.", hint="Build the project again.")
        guard = ["timeout", "--kill-after=5", f"{lifetime:g}"] if shutil.which("timeout") else []
        if guard and shutil.which("setpriv"):
            guard = ["setpriv", "--pdeathsig", "TERM", *guard]
        self._errors = tempfile.TemporaryFile()           # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [*guard, program, *command[1:]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0, start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        os.set_blocking(self._to.fileno(), False)
        os.set_blocking(self._from.fileno(), False)
        self._finalizer = weakref.finalize(self, _end, self._process)

    def write(self, data: bytes, deadline: float) -> None:
        left = memoryview(data)
        while left:
            if not self._wait(self._to, select.POLLOUT, deadline):
                raise DeviceError(f"{self.name} does not take any more bytes.", hint="Give it longer with --timeout, or start again.")
            try:
                left = left[os.write(self._to.fileno(), left) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._gone() from None

    def read(self, deadline: float) -> bytes:
        while self._wait(self._from, select.POLLIN, deadline):
            try:
                data = os.read(self._from.fileno(), _CHUNK)
            except BlockingIOError:
                continue
            if not data:
                raise self._gone()
            return data
        return b""

    def kill(self) -> None:
        """As if the power went: nothing that was started runs on. What waits for it then learns that it has gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        self._finalizer()
        self._to.close()
        self._from.close()
        self._errors.close()

    def _wait(self, pipe: IO[bytes], event: int, deadline: float) -> bool:
        if pipe.closed:
            raise DeviceError(f"The connection to {self.name} is closed already.", hint="Open a new session.")
        poll = select.poll()
        poll.register(pipe.fileno(), event)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))

    def _gone(self) -> DeviceError:
        """What to say when the program has ended by itself: its exit code and the last thing it complained of."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._errors.seek(0)
        text = self._errors.read(_CHUNK).decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip() and "warning:" not in line]
        said = f" It said: {lines[0].strip().rstrip('.')}." if lines else ""
        return DeviceError(
            f"{self.name} has ended by itself (exit code {self._process.returncode}).{said}",
            hint="Start again; the firmware may have crashed.",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group that was started, and only that."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
