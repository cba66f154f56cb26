# SPDX-License-Identifier: Apache-2.0
"""local-momentum: a slow copy of the layer that follows a block teaches it (momentum auxiliary networks: Su et al., arXiv 2407.05623).

    x → block 1 → block 2 → loss               block 2 learns from that
    x → block 1 → copy of the first layer of block 2, with a bias of its own → means over 4x4 → dense → scores → loss 1

It is `local` with other heads: through the copy a block learns what the next one makes of its map. The copy follows that layer as a moving
average, behind each of its updates; gradients only pass through it, and teach the bias and the dense layer. In the paper a second trained
layer stands beside the copy, which here would cost as much again as the layer; a bias is what its authors call it. Behind the last layer
the copy makes the scores itself. A layer that the scheme does not train stands for its own copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.gradient.blocks import Blocks, Cut
from tinytrain.gradient.heads import Head, ending, loss_of, weights
from tinytrain.gradient.method import Step
from tinytrain.gradient.methods.local import Local, Teacher, again
from tinytrain.gradient.partial import Target
from tinytrain.ir.graph import Node
from tinytrain.ir.types import F32, Role, Value
from tinytrain.ops.elementwise import Add


@dataclass(frozen=True)
class LocalMomentum(Local):
    key = "local-momentum"
    numbers = Local.numbers[:1]

    def places(self, step: Step) -> Blocks:
        return Blocks(step.forward, step.targets, further=True)

    def ways(self, blocks: Blocks) -> Iterator[tuple[Cut, ...]]:
        """Where maps are small, copies of the next layer may be large: one cut anywhere is compared too."""
        yield from super().ways(blocks)
        if self.blocks in (0, 2):
            yield from ((place,) for place in blocks.places if blocks.taught(-1, place))

    def added(self, step: Step, blocks: Blocks, cut: Cut) -> Sequence[tuple[int, ...]]:
        layer = _Layer(step, blocks, cut)
        last = () if layer.is_last else weights(layer.end.shape, (), step.output.type.numel)
        return [*(t.param.shape for t in layer.trained), *(v.shape for v in layer.biases), *last]

    def teacher(self, step: Step, cuts: Sequence[Cut]) -> Teacher:
        blocks = self.places(step)

        def teach(number: int) -> tuple[Value, Sequence[Target]]:
            cut, layer = cuts[number], _Layer(step, blocks, cuts[number])
            head = Head(step, f"{cut.value.name}_head", cut.position)
            made = again(step, layer.end, layer.copied(head))
            step.g.origin = head.name
            return loss_of(step, made) if layer.is_last else head.loss(made), head.targets

        return teach


class _Layer:
    """The layer behind a cut, up to the next place: `end` is what it makes."""

    def __init__(self, step: Step, blocks: Blocks, cut: Cut) -> None:
        self.step = step
        forward, place = step.forward, blocks.after(cut)
        self.is_last = blocks.begin.isdisjoint(forward.nodes[place.position + 1 :])
        self.end = ending(step)[0] if self.is_last else place.value
        needed = forward.needed([self.end], {cut.value})
        nodes = [node for node in forward.nodes[cut.position + 1 :] if node in needed]
        read = {v for node in nodes for v in node.inputs}
        self.trained = [t for t in step.targets if t.read in read]
        self.biases = [v for v in dict.fromkeys(v for node in nodes for v in self._biases(node)) if blocks.first[v] > cut.position]

    def _biases(self, node: Node) -> Iterator[Value]:
        whole = {t.read for t in self.trained}            # of a part that is trained, and the rest
        for operand, kind in node.op.parameters.items():
            v = node.inputs[operand]
            if kind in ("bias", "beta") and (v in whole or v.role in (Role.CONST, Role.PARAM)) and v.type.computed.dtype is F32:
                yield v

    def copied(self, head: Head) -> dict[Value, Value]:
        """What the copy reads in place of what the layer reads: slow copies of what is trained, and biases with those of the head."""
        step, g = self.step, self.step.g
        g.origin = head.name
        copies: dict[Value, Value] = {}
        for param in (t.param for t in self.trained):
            if not param.type.dtype.is_float:
                message = f"{step.forward.name}: --method local-momentum averages weights, in steps that integers are too coarse for; "
                raise ModelError(f"{message}{param.name} is {param.type}.", hint="Take --method local, or a scheme without that layer.")
            assert param.data is not None
            copies[param] = step.auxiliary.take(g, f"{param.name}_copy", param.data).param
            step.averages[copies[param]] = param
        made, joined = step.forward.producers(), dict(copies)
        for whole in dict.fromkeys(t.read for t in self.trained if t.read is not t.param):
            joined[whole] = g.emit(made[whole].op, *(copies.get(v, v) for v in made[whole].inputs), name=f"{whole.name}_copy")
        for number, bias in enumerate(self.biases):
            own = head.parameter(f"shift_{number}", np.zeros(bias.shape, np.float32))
            joined[bias] = g.emit(Add(), joined.get(bias, bias), own, name=f"{bias.name}_shifted")
        return joined
