# SPDX-License-Identifier: Apache-2.0
"""How a device chooses among its schemes (`gradient/methods/green.py`); codegen/green.c.j2 is the same in C.

State: `choice` (turn since the last trials began, the scheme that was chosen, steps of each scheme) and `falls` of each scheme's trials.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinytrain.ir.graph import TRIALS
from tinytrain.ir.types import Array


def in_turn(choice: Array) -> int:
    """The scheme of the next step."""
    schemes = len(choice) - 2
    turn, chosen = (int(number) & 0xFFFFFFFF for number in choice[:2])
    if turn < TRIALS * schemes:
        return turn % schemes
    return chosen if chosen < schemes else 0


def is_trial(choice: Array) -> bool:
    """Whether the sample of this step is evaluated again."""
    return (int(choice[0]) & 0xFFFFFFFF) < TRIALS * (len(choice) - 2)


def end_turn(choice: Array, falls: Array, scheme: int, every: int, worth: Sequence[float]) -> None:
    """Count a step of that scheme, and choose where the last trial is done: of no scheme under which losses fell, the first."""
    turn = (int(choice[0]) & 0xFFFFFFFF) + 1
    choice[2 + scheme] += 1
    if turn == TRIALS * len(falls):
        rates = [fall * np.float32(each) for fall, each in zip(falls, worth, strict=True)]
        best, most = 0, np.float32(0)
        for number, rate in enumerate(rates):
            if rate > most:
                best, most = number, rate
        choice[1], falls[...] = best, 0
    choice[0] = 0 if turn >= every else turn
