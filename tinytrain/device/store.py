# SPDX-License-Identifier: Apache-2.0
"""What a device keeps in its flash: saved, loaded and given up over the link. The firmware is compiled with --store."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tinytrain.device.commands import Command
from tinytrain.device.session import Session
from tinytrain.errors import DeviceError

_OPTIMISER = 1                                            # TT_STORE_OPTIMISER of runtime_c/tt_store.h
_KEPT = struct.Struct("<5I")


@dataclass(frozen=True)
class Kept:
    """`steps`: training samples behind the weights in RAM. Of the flash: which save counts, 0 for none; whether what lies behind it is
    torn; how many saves are of other models or schemes, and how many of later formats.
    """

    steps: int
    sequence: int
    torn: int
    foreign: int
    newer: int


def save(session: Session, *, optimiser: bool = True) -> Kept:
    """Weights, and the optimiser's state with which training goes on with the same bits. Raises DeviceError, as all here."""
    return _call(session, Command.SAVE, _OPTIMISER if optimiser else 0)


def load(session: Session) -> Kept:
    """The last save, in place of the weights in RAM. Raises DeviceError where there is none; weights are then as before."""
    return _call(session, Command.LOAD)


def factory_reset(session: Session) -> Kept:
    """Back to the compiled weights, also at each start from now on."""
    return _call(session, Command.FACTORY_RESET)


CALLS: dict[str, Callable[[Session], Kept]] = {"save": save, "load": load, "factory-reset": factory_reset}


def _call(session: Session, command: Command, flags: int = 0) -> Kept:
    answer = session.link.call(command, struct.pack("<I", flags))
    if len(answer) != _KEPT.size:
        raise DeviceError(
            f"{session.link.transport.name} answered {command.name.lower()} with {len(answer)} bytes, expected {_KEPT.size}.",
            hint="Compile the project again with this version of tinytrain.",
        )
    return Kept(*_KEPT.unpack(answer))
