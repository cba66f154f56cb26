# SPDX-License-Identifier: Apache-2.0
"""The link protocol, host side: one request at a time, executed once, a deadline for everything. See docs/link.md."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tinytrain.device.commands import MEANING, Command, Status
from tinytrain.device.packets import SYMBOLS_BODY, Receiver, pack_frame, pack_symbols
from tinytrain.errors import DeviceError, Overflowed
from tinytrain.ops.loss_scale import PATIENCE

VERSION = 3
RANGE = "Scale the samples to the range that the model was made for."
MOST_FRAME_BYTES = 1 << 30                                # of one answer, whatever the device says of itself
MOST_PIECES_BYTES = 1 << 18                               # of a message that can go in pieces, which say their first word in 16 bits
_FIRST_FRAME_BYTES = 1 << 16                              # of an answer before anything is known about the device
_READ = 0x8000                                            # in a number: the rest of an answer is asked for, or comes
_HELLO_NUMBER, _MOST_NUMBER = 0, 0x7FFF
_HEAD, _REQUEST, _ANSWER = struct.Struct("<HH"), struct.Struct("<BBHII"), struct.Struct("<BBHI")
_NONCE_WORD = 3                                           # of the answer to hello
_OLDER = b"\0\5\0\0"                                     # how versions 1 and 2 refuse what they do not know
_FIRST_WAIT, _LEAST_WAIT = 0.25, 0.05     # seconds of silence before something is sent again
_SLOWER = 4.0                                             # than usual, before an answer is missed
_WHO_AFTER = 6                                            # silences, before the device is asked whom it talks to
_STREAK, _MOST_STREAK = 8, 4096


class Transport(Protocol):
    """A stream of bytes to a device; deadlines are values of time.monotonic."""

    @property
    def name(self) -> str:
        """What is at the other end, for messages."""

    @property
    def doubt(self) -> str:
        """What to ask oneself when nothing there says hello, with a space behind it; empty where nothing else can be there."""

    def write(self, data: bytes, deadline: float) -> None:
        """Send everything. Raises DeviceError at the deadline, or when the other side has gone."""

    def read(self, deadline: float) -> bytes:
        """What has arrived, at least one byte; b"" at the deadline. Raises DeviceError when the other side has gone."""

    def close(self) -> None:
        """End the connection and what it started."""


@dataclass(frozen=True)
class Form:
    """How requests and answers travel: up to `most` bytes of one in a packet, and what is written at once for it.

    After `patience` failures in a row the next form is tried, which costs that much more. `most_wait`: seconds between two packets.
    """

    name: str
    most: int
    packed: Callable[[bytes, int], bytes]
    patience: int
    most_wait: float


# From the form for clean lines to that for the worst: whole messages, and pieces of them.
FORMS = (
    Form("whole", 0xFFFFFFFF, pack_frame, 2, 5.0), Form("64 bytes", 64, pack_frame, 3, 0.5), Form("16 bytes", 16, pack_frame, 10, 0.5),
    Form("symbols", SYMBOLS_BODY - _HEAD.size, pack_symbols, 1, 0.5),
)


class Course:
    """Which of FORMS to use: down when packets fail, up again after a streak, each time a longer one where that was in vain."""

    def __init__(self) -> None:
        self.level = 0
        self._fails, self._streak, self._needed, self._trying = 0, 0, _STREAK, False

    def failed(self) -> None:
        self._streak = 0
        self._fails += 1
        if self._trying or self._fails >= FORMS[self.level].patience:
            if self._trying:
                self._needed = min(2 * self._needed, _MOST_STREAK)
            self.level = min(self.level + 1, len(FORMS) - 1)
            self._fails, self._trying = 0, False

    def succeeded(self) -> None:
        self._fails, self._trying = 0, False
        self._streak += 1
        if self._streak >= self._needed:
            if self.level == 0:
                self._needed = _STREAK
            self._trying = self.level > 0
            self.level, self._streak = max(self.level - 1, 0), 0


@dataclass
class Counts:
    """Of one connection. `forms` counts packets by the name of their form."""

    requests: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    silences: int = 0
    forms: dict[str, int] | None = None


@dataclass
class _Call:
    """A request on its way: `sent` bytes of the message are with the device; once it is `asking`, the answer comes."""

    command: Command
    number: int
    message: bytes
    sent: int = 0
    asking: bool = False
    answer: bytearray | None = None
    pieces: bool = False                                  # a part of the message went apart
    behind: int | None = None                             # what the device said last that it has, where that was less than `sent`

    def packet(self, form: Form) -> bytes:
        answer = self.answer or b""
        if self.asking or self.sent >= len(self.message):
            return _HEAD.pack(self.number | _READ, len(answer) // 4 & 0xFFFF) + struct.pack("<I", form.most)
        start = 0 if form.most >= len(self.message) else self.sent
        self.pieces |= form.most < len(self.message)
        return _HEAD.pack(self.number, start // 4 & 0xFFFF) + self.message[start : start + form.most]

    def waits_for(self, form: Form) -> Command | None:
        """What the device executes before it answers that packet; None where it only takes or gives a part."""
        part = not self.asking and self.sent + form.most < len(self.message)
        return None if self.answer or part else self.command

    def take(self, body: bytes) -> bool:
        """Whether the packet says something that was not known; late repetitions, of which there may be several, do not."""
        number, at = _HEAD.unpack_from(body)
        if number == self.number and self.answer is None:
            if self.asking and number == _HELLO_NUMBER:
                return False                              # late: who asks for the answer to hello gets that, and nothing else
            if not self.asking and 4 * at <= self.sent:
                self.behind = 4 * at
                return False
            self.sent, self.asking, self.behind = min(4 * at, len(self.message)), False, None
            return True
        held = self.answer or bytearray()
        if number != self.number | _READ or 4 * at != len(held) or len(body) == _HEAD.size:
            return False
        self.asking, self.answer = True, held + body[_HEAD.size :]
        return True

    @property
    def done(self) -> int:
        """Bytes of request and answer that have arrived for certain."""
        return len(self.message) + len(self.answer) if self.answer else self.sent

    def missed(self) -> None:
        """Nothing new was heard. Whether a whole request was lost, or its answer, only the device knows."""
        if self.behind is not None:
            if self.number == _HELLO_NUMBER and self.behind == 0 < self.sent:
                self.asking = True                        # a session that is open has forgotten the pieces of its hello
            self.sent, self.behind = self.behind, None
        self.asking |= not self.pieces and self.number != _HELLO_NUMBER

    def result(self) -> tuple[int, bytes] | None:
        """(status, payload) once all of it is there."""
        if self.answer is None or len(self.answer) < _ANSWER.size:
            return None
        status, _, _, bytes_ = _ANSWER.unpack_from(self.answer)
        end = _ANSWER.size + bytes_
        return (status, bytes(self.answer[_ANSWER.size : end])) if len(self.answer) >= end else None


class Link:
    """Request and response over a transport. `timeout` is the longest wait without any progress, seconds; `longest` an answer's most bytes.

    `clock` is that of the transport's deadlines; `nonce` tells this host's session from any other.
    """

    def __init__(
        self, transport: Transport, timeout: float = 60.0, *, clock: Callable[[], float] = time.monotonic, nonce: int | None = None
    ) -> None:
        self.transport = transport
        self.timeout = timeout
        self.clock = clock
        self.course = Course()
        self.counts = Counts(forms={form.name: 0 for form in FORMS})
        self._nonce = int.from_bytes(os.urandom(4), "little") if nonce is None else nonce
        self._token, self._number = 0, 0
        self._usual: dict[Command | None, float] = {}     # seconds until a packet is answered; None: one that has nothing executed
        self._receiver = Receiver(_FIRST_FRAME_BYTES)

    @property
    def longest(self) -> int:
        return self._receiver.longest

    @longest.setter
    def longest(self, count: int) -> None:
        self._receiver.longest = count

    def hello(self) -> bytes:
        """Open a session: from then on the device listens to this host only. Returns what it says of itself. Raises DeviceError."""
        while True:
            answer = self._exchange(_Call(Command.HELLO, _HELLO_NUMBER, _message(Command.HELLO, struct.pack("<I", self._nonce))))
            version, nonce, token = struct.unpack_from("<III", answer.ljust(12, b"\0"))
            if version != VERSION or nonce == self._nonce:
                self._token = token
                return answer

    def call(self, command: Command, payload: bytes = b"", *, index: int = 0, offset: int = 0) -> bytes:
        """Payload of the response. Raises DeviceError: no answer in time, a fault, an error status, a device that has forgotten us."""
        self._number = self._number % _MOST_NUMBER + 1
        return self._exchange(_Call(command, self._number, _message(command, payload, index, offset)))

    def close(self) -> None:
        self.transport.close()

    def _exchange(self, call: _Call) -> bytes:
        self.counts.requests += 1
        since = self.clock()
        silences = quiet = done = 0
        while (result := call.result()) is None:
            form = FORMS[self.course.level if len(call.message) <= MOST_PIECES_BYTES else 0]
            began, waits_for = self.clock(), call.waits_for(form)
            self._send(form, call.packet(form))
            usual = self._usual.get(waits_for, _FIRST_WAIT / _SLOWER)
            longer = 2 ** min(quiet, 10) if waits_for else 1      # the device may take its time; what it need not execute was lost
            wait = min(max(_SLOWER * usual, _LEAST_WAIT) * longer, form.most_wait)
            before = self.counts.received_bytes
            if self._hear(call, wait, since + self.timeout):
                if not silences or form is FORMS[-1]:     # else it may well be the answer to an earlier sending
                    self._usual[waits_for] = max(self.clock() - began, 0.75 * self._usual.get(waits_for, 0.0))
                silences = quiet = 0
                if call.done > done:                      # to hear that a request was lost is news, but gets it no further
                    done, since = call.done, self.clock()
                    self.course.succeeded()
                continue
            call.missed()
            silences += 1
            quiet = quiet + 1 if self.counts.received_bytes == before else 0      # what answers damaged is not slow
            self.counts.silences += 1
            self.course.failed()
            if self.clock() >= since + self.timeout:
                self._give_up(call.command)
            if call.command is not Command.HELLO and silences % _WHO_AFTER == 0:
                self._who()
        if not call.pieces:
            self.course.level = 0                         # it went as a whole, however late its answer was
        self._check(result[0], call.command)
        return result[1]

    def _send(self, form: Form, body: bytes, *, token: int | None = None) -> None:
        hello = _HEAD.unpack_from(body)[0] & ~_READ == _HELLO_NUMBER
        data = form.packed(body, 0 if hello else self._token)
        self._receiver.symbols |= form is FORMS[-1]
        assert self.counts.forms is not None
        self.counts.forms[form.name] += 1
        self.counts.sent_bytes += len(data)
        self.transport.write(data, self.clock() + self.timeout)

    def _hear(self, call: _Call, wait: float, deadline: float) -> bool:
        """Whether the device says something new about this call, before it is silent for `wait` seconds, and before the deadline."""
        end = self.clock() + wait
        last = min(end + max(FORMS[0].most_wait, self.timeout / 4), deadline)    # a line that is never silent says nothing either
        news = False
        while not news and self.clock() < min(end, last):
            data = self.transport.read(min(end, last))
            self.counts.received_bytes += len(data)
            end = max(end, self.clock() + wait) if data else end
            for token, body in self._receiver.take(data, (0, self._token) if self._token else (0,)):
                number = _HEAD.unpack_from(body)[0]
                if token == 0 and number == _HELLO_NUMBER | _READ and body[_HEAD.size : _HEAD.size + 1] == bytes([Status.FAULT]):
                    raise self._fault(body[_HEAD.size + _ANSWER.size :])
                if token == 0 and body == _OLDER:
                    raise self._older()
                if (token == 0) == (call.number == _HELLO_NUMBER):
                    news |= call.take(body)
        return news

    def _give_up(self, command: Command) -> None:
        message = f"{self.transport.name} did not answer {command.name.lower()} within {self.timeout:g} s."
        doubt = self.transport.doubt if command is Command.HELLO else ""
        raise DeviceError(message, hint=f"{doubt}Give it longer with --timeout, or reset the board.")

    def _who(self) -> None:
        """Raise DeviceError where the device has been reset, or another host has opened a session with it."""
        call = _Call(Command.HELLO, _HELLO_NUMBER, b"", asking=True, answer=bytearray(4 * _NONCE_WORD))
        form = FORMS[max(self.course.level, 1)]
        self._send(form, call.packet(form))
        news = self._hear(call, _FIRST_WAIT, self.clock() + self.timeout)
        said = bytes(call.answer or b"")[4 * _NONCE_WORD :][:4]
        if news and len(said) == 4 and (nonce := int.from_bytes(said, "little")) != self._nonce:
            if nonce == 0:
                message = f"{self.transport.name} was reset; what it had learned is lost."
                raise DeviceError(message, hint="Go on after the last finished epoch with --resume.")
            message = f"{self.transport.name} talks to another program now, which has greeted it later."
            raise DeviceError(message, hint="End that program, and start again.")

    def _older(self) -> DeviceError:
        return DeviceError(
            f"{self.transport.name} speaks an older version of the link protocol, expected {VERSION}.",
            hint="Compile the project again with this version of tinytrain.",
        )

    def _check(self, status: int, command: Command) -> None:
        if status == Status.OVERFLOW:
            raise Overflowed(
                f"{self.transport.name}: loss or gradients were infinite, or not a number, in {PATIENCE} training steps in a row or more, "
                "at whatever loss scale; weights stay as they are.",
                hint=RANGE.replace(".", ", or train with a lower learning rate (--lr)."),
            )
        if status != Status.OK and (status, command) != (Status.NOT_FINITE, Command.TRAIN):      # its loss tells
            meaning = MEANING.get(Status(status), "") if status in set(Status) else f"unknown status {status}"
            hint = RANGE if status == Status.NOT_FINITE else "Compile the project again if it was changed."
            raise DeviceError(f"{self.transport.name} refused {command.name.lower()}: {meaning}.", hint=hint)

    def _fault(self, payload: bytes) -> DeviceError:
        pc, cause, address = struct.unpack_from("<III", payload.ljust(12, b"\0"))
        return DeviceError(
            f"The firmware on {self.transport.name} stopped with a fault at pc 0x{pc:08x} (cause 0x{cause:08x}, address 0x{address:08x}).",
            hint="Look the address up with addr2line; too small a stack is the usual reason.",
        )


def _message(command: Command, payload: bytes, index: int = 0, offset: int = 0) -> bytes:
    """A request as the device holds it, filled up to a multiple of four bytes."""
    return _REQUEST.pack(command, 0, index, offset, len(payload)) + payload + bytes(-len(payload) % 4)
