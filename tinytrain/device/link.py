# SPDX-License-Identifier: Apache-2.0
"""The link protocol, host side: COBS frames with CRC-32, one request at a time, a deadline for everything. See docs/link.md."""

from __future__ import annotations

import struct
import time
import zlib
from enum import IntEnum
from typing import Protocol

from tinytrain.errors import DeviceError
from tinytrain.ops.loss_scale import PATIENCE

VERSION = 2
RESENDS = 3                                               # of a request whose frame, or whose answer, arrived damaged
KNOCK_SECONDS = 0.25                                       # hello is repeated: a board that still starts may drop what comes early
MOST_FRAME_BYTES = 1 << 30                                # of one answer, whatever the device says of itself
_FIRST_FRAME_BYTES = 1 << 16                              # of an answer before anything is known about the device
_BLOCK = 254                                              # longest run without a zero that one COBS code byte covers


class Command(IntEnum):
    """As in runtime_c/tt_link.h."""

    HELLO = 1
    INFER = 2
    TRAIN = 3
    EVALUATE = 4
    PARAM_INFO = 5
    READ_PARAM = 6
    WRITE_PARAM = 7
    SET_LR = 8
    COUNTERS = 9
    RESET = 10
    SET_SCHEME = 11
    SET_SKIP_BELOW = 12
    SAVE = 13
    LOAD = 14
    FACTORY_RESET = 15


class Status(IntEnum):
    """tt_status of runtime_c/tt_types.h."""

    OK = 0
    ARENA = 1
    ARGUMENT = 2
    LABEL = 3
    FRAME = 4
    COMMAND = 5
    LENGTH = 6
    STACK = 7
    FAULT = 8
    OVERFLOW = 9
    NOT_FINITE = 10
    MORE = 11
    BUSY = 12
    STORE_EMPTY = 16
    STORE_TORN = 17
    STORE_FOREIGN = 18
    STORE_NEWER = 19
    STORE_SPACE = 20
    FLASH = 21


_MEANING = {
    Status.ARENA: "the arena is too small or not aligned",
    Status.ARGUMENT: "an index or offset is out of range",
    Status.LABEL: "the class label is out of range",
    Status.FRAME: "the request arrived damaged",
    Status.COMMAND: "this firmware was not compiled for that command",
    Status.LENGTH: "the sample has the wrong length",
    Status.STACK: "the stack has overflowed; its contents and the weights can no longer be trusted",
    Status.STORE_EMPTY: "its flash has no weights of this model",
    Status.STORE_TORN: "its flash has no whole weights, only what a loss of power left",
    Status.STORE_FOREIGN: "its flash has the weights of another model, or of another scheme",
    Status.STORE_NEWER: "its flash has weights in a later format, which newer firmware wrote",
    Status.STORE_SPACE: "its flash does not hold weights twice",
    Status.FLASH: "its flash does not keep what is written",
}


class Transport(Protocol):
    """A stream of bytes to a device. `name` says in messages what is at the other end; deadlines are values of time.monotonic."""

    name: str

    def write(self, data: bytes, deadline: float) -> None:
        """Send everything. Raises DeviceError at the deadline, or when the other side has gone."""

    def read(self, deadline: float) -> bytes:
        """What has arrived, at least one byte; b"" at the deadline. Raises DeviceError when the other side has gone."""

    def close(self) -> None:
        """End the connection and what it started."""


def cobs_encode(data: bytes) -> bytes:
    """Consistent overhead byte stuffing: the same bytes without any zero, one more byte in 254 (Cheshire and Baker, 1999)."""
    out = bytearray()
    for run in data.split(b"\0"):
        start = 0
        while len(run) - start >= _BLOCK:
            out.append(255)
            out += run[start : start + _BLOCK]
            start += _BLOCK
        out.append(len(run) - start + 1)
        out += run[start:]
    return bytes(out)


def cobs_decode(data: bytes) -> bytes | None:
    """Inverse of `cobs_encode`; None where a block is cut short."""
    out: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        if code == 0 or at + code > end:
            return None
        out.append(data[at + 1 : at + code])
        at += code
        if code != 255 and at < end:
            out.append(b"\0")
    return b"".join(out)


def pack_frame(body: bytes) -> bytes:
    """Body with its CRC, encoded, between two zero bytes: the first ends whatever the device may have half received."""
    return b"\0" + cobs_encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


def unpack_frame(encoded: bytes) -> bytes | None:
    """Body of what stood between two zero bytes; None where it is damaged."""
    frame = cobs_decode(encoded)
    if frame is None or len(frame) < 4 or zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:], "little"):
        return None
    return frame[:-4]


class Link:
    """Request and response over a transport. `timeout` is the longest wait for one response, seconds; `longest` is its most bytes."""

    def __init__(self, transport: Transport, timeout: float = 60.0) -> None:
        self.transport = transport
        self.timeout = timeout
        self.longest = _FIRST_FRAME_BYTES
        self._seq = 0
        self._received = bytearray()

    def call(self, command: Command, payload: bytes = b"", *, index: int = 0, offset: int = 0) -> bytes:
        """Payload of the response. Raises DeviceError: no answer in time, a fault, an error status.

        A frame that arrives damaged on either side is sent again under the same number; the device does not train twice on it.
        """
        self._seq = self._seq % 255 + 1
        request = pack_frame(struct.pack("<BBHI", self._seq, command, index, offset) + payload)
        deadline = time.monotonic() + self.timeout
        self.transport.write(request, deadline)
        damaged = 0
        while True:
            wait = min(deadline, time.monotonic() + KNOCK_SECONDS) if command is Command.HELLO else deadline
            encoded = self._next_frame(wait)
            if encoded is None and wait < deadline:
                self.transport.write(request, deadline)
                continue
            if encoded is None:
                raise DeviceError(
                    f"{self.transport.name} did not answer {command.name.lower()} within {self.timeout:g} s.",
                    hint="Give it longer with --timeout, or reset the board.",
                )
            frame = unpack_frame(encoded)
            if frame is not None and len(frame) >= 4:
                seq, status = frame[0], frame[1]
                if seq == self._seq:
                    self._check(status, command)
                    return frame[4:]
                if seq == 0 and status == Status.FAULT:
                    raise self._fault(frame[4:])
                if seq != 0:
                    continue                              # a late answer to an earlier request
            damaged += 1
            if damaged > RESENDS:
                raise DeviceError(
                    f"{self.transport.name}: {damaged} damaged frames around one {command.name.lower()} request, expected a clean line.",
                    hint="Check baud rate, cable and what else writes to this port.",
                )
            self.transport.write(request, deadline)

    def close(self) -> None:
        self.transport.close()

    def _next_frame(self, deadline: float) -> bytes | None:
        """The next non-empty run of bytes that a zero ends; None at the deadline, which a device that never falls silent meets too."""
        searched = 0
        while True:
            end = self._received.find(0, searched)
            if end > 0:
                frame = bytes(self._received[:end])
                del self._received[: end + 1]
                return frame
            if end == 0:
                self._received = self._received.lstrip(b"\0")
                continue
            if len(self._received) > self.longest * (_BLOCK + 1) // _BLOCK:
                message = f"{self.transport.name} sent {len(self._received):,} bytes without an end; expected one within {self.longest:,}."
                raise DeviceError(message, hint="Is the right firmware on the board?")
            searched = len(self._received)
            more = self.transport.read(deadline) if time.monotonic() < deadline else b""
            if not more:
                return None
            self._received += more

    def _check(self, status: int, command: Command) -> None:
        if status == Status.OVERFLOW:
            raise DeviceError(
                f"{self.transport.name}: loss or gradients were infinite, or not a number, in {PATIENCE} training steps in a row or more, "
                "at whatever loss scale; weights stay as they are.",
                hint="Scale the samples to the range that the model was made for, or train with a lower learning rate (--lr).",
            )
        if status != Status.OK and (status, command) != (Status.NOT_FINITE, Command.TRAIN):      # its loss tells
            meaning = _MEANING.get(Status(status), "") if status in set(Status) else f"unknown status {status}"
            raise DeviceError(
                f"{self.transport.name} refused {command.name.lower()}: {meaning}.", hint="Compile the project again if it was changed."
            )

    def _fault(self, payload: bytes) -> DeviceError:
        pc, cause, address = struct.unpack_from("<III", payload.ljust(12, b"\0"))
        return DeviceError(
            f"The firmware on {self.transport.name} stopped with a fault at pc 0x{pc:08x} (cause 0x{cause:08x}, address 0x{address:08x}).",
            hint="Look the address up with addr2line; too small a stack is the usual reason.",
        )
