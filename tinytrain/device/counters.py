# SPDX-License-Identifier: Apache-2.0
"""What a device says of its work, beside results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One training step; `instructions` is None where they were not counted (host, or an emulator without icount)."""

    loss: float
    instructions: int | None


@dataclass(frozen=True)
class Counters:
    """`instructions` of the last call; `stack_bytes` is the deepest use since start-up, of `stack_reserved_bytes`. 0 on the host.

    `skipped` counts training samples since start-up or reset whose loss was below or above the thresholds. `clock_hz` is the rate
    that the processor runs at: that of reset where an oscillator did not start, as in an emulator without one.
    `shared` are the instructions of each of several cores in what they shared of that call: the slowest one's are in `instructions`.
    """

    instructions: int | None
    ticks: int
    calls: int
    stack_bytes: int
    stack_reserved_bytes: int
    arena_bytes: int
    ctx_bytes: int
    skipped: int
    clock_hz: int
    shared: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scale:
    """What gradients are multiplied by on their way, and what has come of it.

    `good` steps had none that was infinite or not a number since that changed; `overflowed` steps had one since start-up or reset, the
    last `in_a_row` without a break.
    """

    loss_scale: float
    good: int
    overflowed: int
    in_a_row: int
