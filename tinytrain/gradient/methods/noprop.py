# SPDX-License-Identifier: Apache-2.0
"""noprop: blocks that hand on class probabilities learn each for itself to tell the class from the sample and a noised label (Li, Teh and
Pascanu, arXiv 2503.24322).

    infer:  x → block 1 → p1;   x, p1 → block 2 → p2;   x, p2 → block 3 → scores
    train:  x → block 1 → loss 1;   x, z1 → block 2 → loss 2;   x, z2 → block 3 → loss 3        zt = √α·label + √(1 − α)·noise, α rising

A step runs through no block for another one's sake: what a block reads of the one before is drawn. So the loss that it reports is that of
the last block with its noised label; evaluate has the model's. The paper adds up p and z from block to block and draws noise when it infers
too; here p is handed on alone, and nothing is drawn then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.blocks import Blocks, Cut
from tinytrain.gradient.heads import shaped
from tinytrain.gradient.method import Goal, Number, Step
from tinytrain.gradient.methods.local import Local, again
from tinytrain.ir.types import S32, Value
from tinytrain.ops.dropout import Advance
from tinytrain.ops.labels import NoisedLabel
from tinytrain.ops.softmax import Softmax


@dataclass(frozen=True)
class NoProp(Local):
    key = "noprop"
    numbers: ClassVar[tuple[Number, ...]] = ()

    def goals(self, step: Step) -> Iterator[Goal]:
        g, label, aim, made = step.g, step.g.inputs[-1], step.aims[0], step.forward.producers()
        cuts = self._cuts(step)
        if label.type.dtype is not S32:
            message = f"{step.forward.name}: --method {self.key} noises labels; this loss takes none."
            raise ModelError(message, hint="Give --loss ce, or leave --method out.")
        *parts, last = self._parts(step, cuts)
        draws = step.states.take(g, "draws", np.zeros(1, np.int32))
        step.updates[draws] = g.emit(Advance(), draws)
        output = step.forward.outputs[aim.output]
        rows = [*(cut.value for cut in cuts), output]
        for number, mine in reversed(list(enumerate([*parts, last]))):
            g.origin, given = f"{rows[number].name}_denoised", dict[Value, Value]()
            if number:
                before, part = rows[number - 1], math.pi / 2 * number / len(rows)
                z = g.emit(NoisedLabel(output.type.numel, math.sin(part), math.cos(part), number), label, draws, name="noised")
                given = {before: shaped(g, z, before.shape)}
            maker = made[rows[number]]
            scores = again(step, maker.inputs[0] if isinstance(maker.op, Softmax) else rows[number], given)
            g.origin = f"{rows[number].name}_denoised"
            loss = aim.loss.emit(g, shaped(g, scores, output.shape), label)
            step.loss = loss if rows[number] is output else step.loss
            yield Goal(loss, mine)

    def chosen(self, step: Step, blocks: Blocks) -> tuple[Cut, ...]:
        made, classes = blocks.graph.producers(), blocks.graph.outputs[0].type.numel
        found = tuple(
            cut for cut in blocks.places
            if isinstance(made[cut.value].op, Softmax) and cut.value.type.numel == classes and cut.nbytes == cut.value.type.nbytes
        )
        if not found:
            narrow = min(blocks.places, key=lambda cut: cut.nbytes)
            raise ModelError(
                f"{blocks.graph.name}: --method {self.key} trains blocks that read the sample and {classes} class probabilities of the one "
                f"before; nowhere do these alone pass, the least that does is {narrow.value.name} with {narrow.nbytes:,} B.",
                hint="`tinytrain model denoiser` is such a network; any other learns by --method local or mono.",
            )
        return found
