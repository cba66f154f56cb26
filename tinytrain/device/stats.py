# SPDX-License-Identifier: Apache-2.0
"""What has happened to a model on a device so far (runtime_c/tt_stats.h)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tinytrain.device.commands import Command
from tinytrain.device.session import Session
from tinytrain.device.store import Kept
from tinytrain.errors import DeviceError

_STATS = struct.Struct("<4Ii4I")


@dataclass(frozen=True)
class Stats:
    """Training samples since start-up or reset: `skipped`, whose loss was below or above the thresholds, and `not_finite`, left out
    since something was not. `overflowed` counts steps whose fp16 gradients did, which are multiplied by 2^`loss_scale` on their way;
    both are 0 where there are none. `kept`: all samples behind the weights, and what the last save or load found.
    """

    skipped: int
    not_finite: int
    overflowed: int
    loss_scale: int
    kept: Kept


def stats(session: Session) -> Stats:
    """Raises DeviceError, also where the firmware does not train, or is older than the command."""
    answer = session.link.call(Command.STATS)
    if len(answer) != _STATS.size:
        raise DeviceError(
            f"{session.link.transport.name} answered stats with {len(answer)} bytes, expected {_STATS.size}.",
            hint="Compile the project again with this version of tinytrain.",
        )
    steps, skipped, not_finite, overflowed, loss_scale, *saves = _STATS.unpack(answer)
    return Stats(skipped, not_finite, overflowed, loss_scale, Kept(steps, *saves))
