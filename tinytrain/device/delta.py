# SPDX-License-Identifier: Apache-2.0
"""What training has changed, as the device tells it and takes it: the format of runtime_c/tt_delta.h (docs/link.md)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinytrain.device.commands import Command
from tinytrain.device.session import Session
from tinytrain.errors import DataError, DeviceError
from tinytrain.ir.types import Array

MAGIC = b"ttWD"
RUNS, PACKED = 1, 2                                       # formats: as devices read it, and that of learn/compression.py
_HEAD, _RUN, _NUMBER = struct.Struct("<4sI16sII"), struct.Struct("<3I"), struct.Struct("<I")
_END = _NUMBER.pack(0xFFFFFFFF)
_PART_BYTES = 1 << 16                                     # of a delta at once, to be asked for again where one is damaged
_JOIN_BYTES = 32                                          # of a packet but its data: fewer equal bytes are sent with those around them
HINT = "Pull it again, with the project that it is pushed to."


@dataclass(frozen=True)
class Head:
    """`model`: the first 16 bytes of its hash; `layout` stands for names, types and sizes of its weights; `steps` led to these changes."""

    format: int
    model: bytes
    layout: int
    steps: int

    @classmethod
    def of(cls, data: bytes) -> Head:
        return cls(*_HEAD.unpack(data)[1:])

    def sealed(self, body: bytes) -> bytes:
        """A whole delta."""
        data = _HEAD.pack(MAGIC, self.format, self.model, self.layout, self.steps) + body
        return data + _NUMBER.pack(zlib.crc32(data))


def opened(data: bytes, where: object) -> tuple[Head, bytes]:
    """(head, body) of a whole delta. Raises DataError with `where` it is from: damaged, none, or of a later format."""
    if len(data) < _HEAD.size + _NUMBER.size or not data.startswith(MAGIC) or zlib.crc32(data[:-4]) != _NUMBER.unpack(data[-4:])[0]:
        raise damaged(where)
    head = Head.of(data[: _HEAD.size])
    if head.format not in (RUNS, PACKED):
        raise DataError(f"{where} has format {head.format}, expected {RUNS} or {PACKED}.", hint="A newer tinytrain may read it.")
    return head, data[_HEAD.size : -_NUMBER.size]


def damaged(where: object) -> DataError:
    return DataError(f"{where} is damaged, or no delta that a device or `tinytrain pull` made.", hint=HINT)


def applied(body: bytes, compiled: Mapping[str, Array], where: object) -> dict[str, Array]:
    """The flat arrays `compiled`, in the device's order, with these runs over them. Raises DataError."""
    held = [bytearray(array.tobytes()) for array in compiled.values()]
    at = 0
    while body[at:] != _END:
        if len(body) - at < _RUN.size:
            raise damaged(where)
        index, first, count = _RUN.unpack_from(body, at)
        at += _RUN.size
        if index >= len(held) or not 0 < count <= len(body) - at or first + count > len(held[index]):
            raise damaged(where)
        held[index][first : first + count] = body[at : at + count]
        at += count
    return {key: np.frombuffer(data, array.dtype) for data, (key, array) in zip(held, compiled.items(), strict=True)}


def export(session: Session) -> bytes:
    """The delta of a device to its compiled weights; only that goes over the link. Raises DeviceError."""
    data, last = b"", _PART_BYTES
    while last == _PART_BYTES:
        part = _part(session, len(data), _PART_BYTES)
        data, last = data + part, len(part)
        if last > _PART_BYTES or len(data) > 2 * session.info.arena_bytes + _PART_BYTES:
            raise DeviceError(f"{session.link.transport.name} gives a delta without end.", hint="Compile the project again, and flash it.")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise DeviceError(f"The weights on {session.link.transport.name} have changed while they were read.", hint="Pull them again.")
    return data


def head(session: Session) -> Head:
    """What the delta of a device begins with. Raises DeviceError."""
    data = _part(session, 0, _HEAD.size)
    if len(data) != _HEAD.size:
        raise DeviceError(f"{session.link.transport.name} gives no delta.", hint="Compile the project again, and flash it.")
    return Head.of(data)


def put(session: Session, begin: Head, compiled: Mapping[str, Array], learned: Mapping[str, Array]) -> None:
    """Give a device its compiled weights, a new optimiser, and what has changed from `compiled` to `learned`; only that goes over the link.

    Raises DeviceError. Where the line breaks off meanwhile, a part of the changes is made: put them again.
    """
    session.link.call(Command.IMPORT_DELTA, replace(begin, format=RUNS).sealed(_END))
    for key, array in learned.items():
        for first, data in _changes(array.tobytes(), compiled[key].tobytes()):
            session.write(key, data, first)


def _part(session: Session, offset: int, count: int) -> bytes:
    return session.link.call(Command.EXPORT_DELTA, _NUMBER.pack(count), offset=offset)


def _changes(now: bytes, before: bytes) -> Iterator[tuple[int, bytes]]:
    """(first byte, bytes) of each run of changes; runs that few equal bytes part are one."""
    places = np.flatnonzero(np.frombuffer(now, np.uint8) != np.frombuffer(before, np.uint8))
    for run in np.split(places, 1 + np.flatnonzero(np.diff(places) > _JOIN_BYTES)):
        if run.size:
            yield int(run[0]), now[run[0] : run[-1] + 1]
