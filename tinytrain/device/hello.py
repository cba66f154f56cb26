# SPDX-License-Identifier: Apache-2.0
"""What a device says of itself when it is greeted."""

from __future__ import annotations

import struct
from dataclasses import dataclass

HELLO = struct.Struct("<12I32s")                          # say_hello of runtime_c/tt_link.c; two names follow


@dataclass(frozen=True)
class Hello:
    """What the firmware says about itself. Sizes in bytes."""

    model: str
    board: str
    model_hash: bytes
    input_bytes: int
    target_bytes: int
    output_bytes: int
    arena_bytes: int
    ctx_bytes: int
    param_count: int
    trains: bool
    payload_bytes: int
    schemes: int

    @property
    def ram_bytes(self) -> int:
        """Arena, in which the sample lies too, context and target: all RAM of the model but for its output and the stack."""
        return self.arena_bytes + self.ctx_bytes + self.target_bytes


def hello_names(answer: bytes) -> list[str]:
    """[model, board] behind the numbers of a hello, as far as they are there."""
    return [text.decode(errors="replace") for text in answer[HELLO.size :].split(b"\0")[:2]]
