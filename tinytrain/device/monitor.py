# SPDX-License-Identifier: Apache-2.0
"""Watching a line: what a device says of itself, and what comes from it, as text."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing

from tinytrain.device.commands import Command
from tinytrain.device.hello import HELLO, hello_names
from tinytrain.device.link import Link, Transport
from tinytrain.device.packets import cobs_decode
from tinytrain.device.session import COUNTERS

_LOOK_SECONDS = 0.2
_SHOWN_BYTES = 32                                         # of a frame


def watch(transport: Transport, say: Callable[[str], None], *, seconds: float | None = None, hello: bool = True) -> None:
    """Say what comes for that long, or until interrupted; with `hello` first who is there. Raises DeviceError where nobody answers."""
    with closing(Link(transport, timeout=10.0)) as link:
        if hello:
            _introduce(link, say)
        end = time.monotonic() + (math.inf if seconds is None else seconds)
        held = b""
        while (now := time.monotonic()) < end:
            *parts, held = (held + transport.read(min(end, now + _LOOK_SECONDS))).split(b"\0")
            if held.endswith(b"\n"):
                parts, held = [*parts, held], b""
            for part in filter(None, parts):
                say(_text(part))
        if held:
            say(_text(held))


def _introduce(link: Link, say: Callable[[str], None]) -> None:
    answer = link.hello()
    version, _, _, inputs, target, output, arena, ctx, *_, model_hash = HELLO.unpack_from(answer.ljust(HELLO.size, b"\0"))
    model, board = [*hello_names(answer), "?", "?"][:2]
    say(f"model      {model} on {board}, {model_hash.hex()[:16]}, version {version} of the link")
    say(f"bytes      input {inputs:,}, target {target:,}, output {output:,}, arena {arena:,}, context {ctx:,}")
    ticks, calls, used, reserved, skipped, clock = COUNTERS.unpack(link.call(Command.COUNTERS)[: COUNTERS.size].ljust(COUNTERS.size, b"\0"))
    say(f"counters   {calls:,} calls, the last one {ticks:,} ticks; stack {used:,} of {reserved:,} bytes; {skipped:,} samples skipped")
    say(f"clock      {clock:,} Hz")


def _text(part: bytes) -> str:
    """A line of text as it is, a frame as its head and bytes."""
    line = part.decode("ascii", errors="replace").rstrip("\r\n")
    if line.replace("\n", "").replace("\r", "").isprintable() and "\ufffd" not in line and len(line) > 1:
        return f"text       {line}"
    body = cobs_decode(part)
    if body is None or len(body) < 8:
        return f"garbage    {part[:_SHOWN_BYTES].hex(' ')} ({len(part):,} bytes)"
    number, at = int.from_bytes(body[:2], "little"), int.from_bytes(body[2:4], "little")
    what = "answer" if number & 0x8000 else "request"
    return f"frame      {what} {number & 0x7FFF} from word {at}: {body[4:-4][:_SHOWN_BYTES].hex(' ')} ({len(body) - 8:,} bytes)"
