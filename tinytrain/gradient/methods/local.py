# SPDX-License-Identifier: Apache-2.0
"""local: each block of the network learns from a loss of its own, which a small head makes of what the block gives.

    x → block 1 → block 2 → block 3 → loss   forward pass and loss: block 3 learns from that
    x → block 1 → block 2 → head 2 → loss 2  again, for block 2 alone
    x → block 1 → head 1 → loss 1            again, for block 1

No gradient crosses into another block. What leads to a block is made again from the sample, so that only the maps of one block are in
memory at once; the last block learns first, so that no weight changes that is still to be read. The first pass keeps nothing but what the
last block needs: it lets a step be left out by its loss, or change nothing where that is not finite.
The loss that a device reports, and what it infers, are the model's; heads are only for learning (`gradient/heads.py`). With hidden layers
they are shaped like the layers that follow their block, fewer the later it is (AugLocal: Ma et al., arXiv 2402.17318).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from tinytrain.errors import ModelError
from tinytrain.gradient.blocks import Blocks, Cut, layers
from tinytrain.gradient.heads import Head, weights
from tinytrain.gradient.method import Goal, Method, Number, Step
from tinytrain.gradient.partial import Target
from tinytrain.ir.types import F32, Value

Teacher = Callable[[int], tuple[Value, Sequence[Target]]]  # of a block by its number: its loss, and what is trained besides


@dataclass(frozen=True)
class Local(Method):
    """`blocks` 0: as many as take the fewest bytes, of the maps of one block and the weights of all heads. The head of the first block has
    `hidden` layers, that of the last one none."""

    blocks: int = 0
    hidden: int = 0

    key = "local"
    labels = True
    reals = True
    numbers: ClassVar[tuple[Number, ...]] = (Number("a number of blocks", 2, 999), Number("of layers of heads", 0, 9))

    def goals(self, step: Step) -> Iterator[Goal]:
        chosen = self._cuts(step)
        *parts, last = self._parts(step, chosen)
        teach = self.teacher(step, chosen)
        yield Goal(step.loss, last)
        for number, mine in reversed(list(enumerate(parts))):
            loss, added = teach(number)
            yield Goal(loss, [*mine, *added])

    def _parts(self, step: Step, cuts: Sequence[Cut]) -> list[list[Target]]:
        """What the scheme trains of each block."""
        position = {v: p for p, node in enumerate(step.forward.nodes) for v in node.inputs}
        ends = [-1, *(cut.position for cut in cuts), len(step.forward.nodes)]
        return [[t for t in step.targets if a < position[t.read] <= b] for a, b in pairwise(ends)]

    def teacher(self, step: Step, cuts: Sequence[Cut]) -> Teacher:
        """What gives each block but the last one its loss; it is asked for the last ones first."""
        def teach(number: int) -> tuple[Value, Sequence[Target]]:
            cut = cuts[number]
            head = Head(step, f"{cut.value.name}_head", cut.position)
            loss = head.loss(again(step, cut.value), self._widths(step, cut, len(cuts) - number - 1, len(cuts) - 1))
            return loss, head.targets

        return teach

    def _widths(self, step: Step, cut: Cut, behind: int, most: int) -> list[int]:
        """Output channels of the hidden layers of a head with so many heads `behind` it, of `most`: as layers that follow have, and no more
        than the map."""
        count = round(self.hidden * behind / most) if most else 0
        behind_cut = set(step.forward.nodes[cut.position + 1 :])
        following = [node for node in layers(step.forward) if node in behind_cut][:-1]
        chosen = [following[i * len(following) // count] for i in range(min(count, len(following)))] if count else []
        return [min(node.outputs[0].shape[-1], cut.value.shape[-1]) for node in chosen]

    def _cuts(self, step: Step) -> tuple[Cut, ...]:
        name = step.forward.name
        if len(step.aims) > 1:
            message = f"{name}: --method {self.key} gives each block the loss of the one output; {len(step.aims)} have a loss here."
            raise ModelError(message, hint="Give a --loss for one output alone, as --loss label=ce, or leave --method out.")
        blocks = self.places(step)
        counts = blocks.counts
        if not counts or self.blocks not in (0, *counts):
            near = min(counts, key=lambda count: abs(count - self.blocks), default=0)
            what = f"in {near} blocks" if counts else "nowhere"
            raise ModelError(
                f"{name}: --method {self.key}{f':{self.blocks}' if self.blocks else ''} cuts the network in blocks, of which each trains "
                f"something and hands on one map; what this scheme trains can be cut {what}.",
                hint=f"Try --method {self.key}:{near}." if counts else "Train more layers, or leave --method out.",
            )
        return self.chosen(step, blocks)

    def places(self, step: Step) -> Blocks:
        """Where it can be cut."""
        return Blocks(step.forward, step.targets)

    def added(self, step: Step, blocks: Blocks, cut: Cut) -> Sequence[tuple[int, ...]]:
        """Shapes of what the head behind a cut adds."""
        return weights(cut.value.shape, (), step.output.type.numel)

    def chosen(self, step: Step, blocks: Blocks) -> tuple[Cut, ...]:
        """Where the network is cut, of the places that there are."""
        added = {cut: F32.np.itemsize * sum(map(math.prod, self.added(step, blocks, cut))) for cut in blocks.places}

        def nbytes(cuts: Sequence[Cut]) -> int:
            return blocks.most_bytes(cuts) + sum(added[cut] for cut in cuts)

        return min(self.ways(blocks), key=nbytes)

    def ways(self, blocks: Blocks) -> Iterator[tuple[Cut, ...]]:
        """Those that are compared."""
        for count in [self.blocks] if self.blocks else blocks.counts:
            yield blocks.even(count)


def again(step: Step, value: Value, given: Mapping[Value, Value] | None = None) -> Value:
    """Emit all that a value of the forward pass is made by once more, but for weights that are put together, whose gradients are asked for.
    What is given stands in for values of the forward pass."""
    made = {**{t.read: t.read for t in step.targets}, **(given or {})}
    needed = step.forward.needed([value], made)
    for node in step.forward.nodes:
        if node in needed:
            step.g.origin = node.origin
            outputs = step.g.emit_all(node.op, *(made.get(v, v) for v in node.inputs), name=node.outputs[0].name)
            made.update(zip(node.outputs, outputs, strict=True))
    return made.get(value, value)
