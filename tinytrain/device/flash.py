# SPDX-License-Identifier: Apache-2.0
"""Writing a project's firmware into its board, by whatever tool is there for it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence

from tinytrain.atomic import write_bytes
from tinytrain.device.flashers import choose
from tinytrain.device.flashers.tool import Firmware, Flasher
from tinytrain.device.project import Project
from tinytrain.device.serial import SerialTransport
from tinytrain.device.session import connect
from tinytrain.errors import DeviceError, ToolError
from tinytrain.reading import plain

SECONDS = 300                                             # of one command: a megabyte at 115,200 baud takes a minute and a half


def flash_project(project: Project, via: str | None, say: Callable[[str], None], *, dry_run: bool, timeout: float) -> None:
    """Build the firmware if need be, say each command, run it, and say how it was verified; with `dry_run` only say them.

    Where the project has a port, the firmware must answer there within `timeout` seconds. Raises ToolError without a tool, DeviceError
    where it fails or finds something else in the board than it wrote, or where the firmware does not answer.
    """
    flasher, where = choose(project.board, via, installed=not dry_run)
    firmware = Firmware(project.elf().resolve(), project.board)
    files, commands = flasher.prepare(firmware, where)
    for path, data in () if dry_run else files.items():
        write_bytes(path, data)
    output = ""
    for command in commands:
        say(f"command    {shlex.join(command)}")
        if not dry_run:
            output += _run(command, flasher, firmware)
    if dry_run:
        said = "" if flasher.program() else f"; {flasher.programs[0]} is not installed ({flasher.get})"
        say(f"dry run    nothing was run{said}")
        return
    say(f"verified   {flasher.verified(firmware, output)}")
    if project.port is not None:
        say(f"answers    {_hello(project, project.port, timeout)}")


def _hello(project: Project, port: str, timeout: float) -> str:
    """What the firmware that was flashed says of itself. Raises DeviceError where it does not, or another one does."""
    try:
        transport = SerialTransport(port, project.baud, patience=timeout)
        with connect(transport, project.board, project.manifest, timeout=timeout) as session:
            return f"{session.info.model} on {session.info.board}, model {session.info.model_hash.hex()[:16]}, on {transport.port}"
    except DeviceError as error:
        raise DeviceError(
            *error.sentences, f"Board {project.board.name} was flashed, and its firmware should have answered there.",
            hint="Is it the port of this board, and --baud its rate? Reset it, and try `tinytrain monitor`.",
        ) from None


def _run(command: Sequence[str], flasher: Flasher, firmware: Firmware) -> str:
    """Everything that the command prints. Raises DeviceError where it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=SECONDS, check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"{command[0]} did not end within {SECONDS} s; board {firmware.board.name} may hold half a firmware."
        raise DeviceError(message, hint="Check the cable, and flash again.") from None
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be run: {error.strerror}.", hint="See `tinytrain doctor`.") from None
    if done.returncode:
        lines = [plain(line) for line in done.stdout.splitlines() if line.strip()]
        raise DeviceError(
            f"{command[0]} could not flash board {firmware.board.name} (exit code {done.returncode}):", details=flasher.reason(lines),
            hint="Is the board connected and powered, and free for this user?",
        )
    return done.stdout
