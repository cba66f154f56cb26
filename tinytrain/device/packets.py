# SPDX-License-Identifier: Apache-2.0
"""Packets of the link on a line of bytes: as frames (COBS, CRC-32), or as symbols where hardly a byte in two is right. See docs/link.md."""

from __future__ import annotations

import struct
import zlib

BLOCK = 254                                               # longest run without a zero that one COBS code byte covers
SYMBOLS_BODY = 8                                          # bytes of a packet that is sent as symbols, without its CRC
_PLACES = 32                                              # of three bits each
_MOST_VOTES = 4
_TIMES = 4                                                # that a packet is sent at once


def cobs_encode(data: bytes) -> bytes:
    """Consistent overhead byte stuffing: the same bytes without any zero, one more byte in 254 (Cheshire and Baker, 1999)."""
    out = bytearray()
    for run in data.split(b"\0"):
        start = 0
        while len(run) - start >= BLOCK:
            out.append(255)
            out += run[start : start + BLOCK]
            start += BLOCK
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


def signed(body: bytes, token: int) -> bytes:
    """The body and its CRC xor token."""
    return body + struct.pack("<I", zlib.crc32(body) ^ token)


def checked(data: bytes, token: int) -> bytes | None:
    """Body of what `signed` made with that token; None for anything else."""
    return data[:-4] if len(data) >= 4 and zlib.crc32(data[:-4]) ^ token == int.from_bytes(data[-4:], "little") else None


def pack_frame(body: bytes, token: int = 0) -> bytes:
    """Body with its CRC, encoded, between two zero bytes: the first ends whatever the other side may have half received."""
    return b"\0" + cobs_encode(signed(body, token)) + b"\0"


def unpack_frame(encoded: bytes, token: int = 0) -> bytes | None:
    """Body of what stood between two zero bytes; None where it is damaged, or was made with another token."""
    frame = cobs_decode(encoded)
    return None if frame is None else checked(frame, token)


def pack_symbols(body: bytes, token: int = 0) -> bytes:
    """Up to 8 bytes as four times 32: each has three bits of the packet below the number of their place, so none depends on another one."""
    assert len(body) <= SYMBOLS_BODY
    number = int.from_bytes(signed(body.ljust(SYMBOLS_BODY, b"\0"), token), "little")
    return _TIMES * bytes(place << 3 | number >> 3 * place & 7 for place in range(_PLACES))


class Symbols:
    """What the bytes of a line say, as symbols: for each place the value with most votes (Boyer and Moore, 1981)."""

    def __init__(self) -> None:
        self._value, self._votes = [0] * _PLACES, [0] * _PLACES

    def take(self, byte: int) -> bytes | None:
        """The packet as it stands, with its CRC, after the byte of its last place; whether it is right only its CRC says."""
        place, value = byte >> 3, byte & 7
        if self._value[place] == value:
            self._votes[place] = min(self._votes[place] + 1, _MOST_VOTES)
        elif self._votes[place]:
            self._votes[place] -= 1
        else:
            self._value[place], self._votes[place] = value, 1
        if place != _PLACES - 1:
            return None
        return sum(value << 3 * place for place, value in enumerate(self._value)).to_bytes(SYMBOLS_BODY + 4, "little")

    def settle(self) -> None:
        """The packet was good: the next one may well differ, so that one vote for each place is all that stays of it."""
        self._votes = [min(count, 1) for count in self._votes]


class Receiver:
    """Cuts a line of bytes into packets. `longest` is the most bytes of a frame; for symbols it listens only with `symbols`."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.symbols = False
        self._frame, self._symbols = bytearray(), Symbols()

    def take(self, data: bytes, tokens: tuple[int, ...]) -> list[tuple[int, bytes]]:
        """(token, body) of each good packet that these bytes complete."""
        found = []
        *ended, rest = data.split(b"\0")
        for part in ended:
            self._frame += part
            decoded = cobs_decode(bytes(self._frame)) if 0 < len(self._frame) <= self.longest * (BLOCK + 1) // BLOCK + 8 else None
            self._frame.clear()
            if decoded is not None:
                found += _good(decoded, tokens)
        self._frame += rest[: max(0, 2 * self.longest - len(self._frame))]
        for byte in data if self.symbols else b"":
            packet = self._symbols.take(byte)
            if packet is not None and (good := _good(packet, tokens)):
                self._symbols.settle()
                found += good
        return found


def _good(data: bytes, tokens: tuple[int, ...]) -> list[tuple[int, bytes]]:
    return [(token, body) for token in tokens if (body := checked(data, token)) is not None and len(body) >= 4][:1]
