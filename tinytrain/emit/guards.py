# SPDX-License-Identifier: Apache-2.0
"""What a training step looks at before it changes anything: of whatever is written to a stored value, all operands.

Sums of products of numbers below the limit are finite, and so is what an optimiser makes of them: what is looked at are maps, not the
gradients of weights, most of which never lie in memory.
"""

from __future__ import annotations

from tinytrain.ir.graph import LOSS_SCALE, Graph, Node, Program
from tinytrain.ir.types import F32, Role, Value
from tinytrain.planner import Plan, ProgramPlan
from tinytrain.planner.updates import contents

_STORED = (Role.PARAM, Role.STATE)
_BIAS, _FRACTION_BITS = 127, 23                           # of the exponent of IEEE 754 single precision
INFINITE = 0xFF << _FRACTION_BITS


def limit(graph: Graph) -> int:
    """Bits of the power of two that numbers behind an update stay below: 2^e with N·2^2e ≤ 2^119, where N is the size of the largest map,
    so that no sum has more products; 2^8 is left for rates and momentum. Where gradients are squared, N·2^2e ≤ 2^63."""
    most = max(v.type.numel for v in graph.values())
    squared = any(op.squares for node in graph.nodes for op in (node.op, *getattr(node.op, "then", ())))
    return _BIAS + ((63 if squared else 119) - most.bit_length()) // 2 << _FRACTION_BITS


def looks_at_maps(program: Program, plan: ProgramPlan) -> bool:
    """Whether the emitted step looks at maps and loss: of what is stored as fp16 the graph itself does."""
    return program.guards != "none" and not any(v.name == LOSS_SCALE for v in plan.fixed)


def looks(plan: Plan) -> dict[Node | None, list[Value]]:
    """What is looked at behind each node of the way back; None: all that is there when the loss is known."""
    last, found = loss_at(plan), dict[Node | None, list[Value]]()
    behind = set(plan.graph.nodes[last + 1 :])
    for v, node in watched(plan).items():
        if v.role is Role.TEMP:
            found.setdefault(node if node in behind else None, []).append(v)
    return found


def loss_at(plan: Plan) -> int:
    """Index of the node with which the loss is known."""
    seen = contents(plan.graph)[plan.graph.outputs[0]]
    return next(i for i, node in enumerate(plan.graph.nodes) if seen in node.outputs)


def reads_sample(program: Program, plan: ProgramPlan) -> bool:
    """Whether an update is made of the sample itself."""
    return any(v.role is Role.INPUT for train in program.trains for v in watched(plan.entries[train]))


def watched(plan: Plan) -> dict[Value, Node | None]:
    """Each fp32 value that an update is made of, with the node that makes it; None: the sample itself.

    What depends on another update is none of them: a rate, say, that follows the number of updates.
    """
    content, found = contents(plan.graph), dict[Value, Node | None]()
    made: dict[Value, Node] = {}
    late: set[Value] = set()
    copied = {content[new] for _, new in plan.copies}
    for node in plan.graph.nodes:
        if node.op.view:
            continue
        made |= dict.fromkeys(node.outputs, node)
        writes = any(plan.root(v).role in _STORED or v in copied for v in node.outputs)
        if writes or late.intersection(content[v] for v in node.inputs):
            late.update(node.outputs)
        for v in (content[v] for v in node.inputs if writes):
            if v.type.dtype is F32 and v not in late and v.role in (Role.INPUT, Role.TEMP) and plan.root(v).role not in _STORED:
                found[v] = made.get(v)
    return found
