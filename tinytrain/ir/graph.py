# SPDX-License-Identifier: Apache-2.0
"""Nodes and graphs. Frozen: a pass returns a new graph, or the same object when nothing changed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from tinytrain.ir.op import Declined, Elementwise, Fusable, Op
from tinytrain.ir.types import F32, Role, TensorType, Value

LEARNING_RATE = "learning_rate"                           # the STATE value that the device can set
CHOICE, FALLS = "choice_of_schemes", "falls_of_loss"      # STATE by which a device chooses among schemes (ir/choosing.py)
TRIALS = 4                                                # steps of each scheme before it chooses
SEEN = "replay_seen"                                      # STATE whose first element counts samples that a memory was shown
LOSS_SCALE = "loss_scale"                                 # the STATE value that says whether there is an overflow in every step

@dataclass(frozen=True, eq=False)
class Node:
    """One call of an op. `origin` is the name of the ONNX node it stems from; it survives every pass."""

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    origin: str = ""

    @property
    def kinds(self) -> tuple[TensorType, ...]:
        """Types of the inputs as the op sees them, whether fp32 is stored as fp16 or not."""
        return tuple(v.type.computed for v in self.inputs)

    @property
    def along(self) -> tuple[Value, ...]:
        """Operands that are read element by element: of an elementwise op, or of an epilogue."""
        if isinstance(self.op, Fusable):
            return self.inputs[self.op.arity :]
        return self.inputs if isinstance(self.op, Elementwise) else ()

    @property
    def wide(self) -> frozenset[Value]:
        """What is never stored as fp16, whatever kernels could read and write (`Op.wide`)."""
        found = [self.inputs[i] if i >= 0 else self.outputs[~i] for i in self.op.wide]
        chain = self.op.epilogue() if isinstance(self.op, Fusable) else ()
        return frozenset((*found, *(self.inputs[i] for op, more in chain for at, i in enumerate(more, start=1) if at in op.wide)))

    @property
    def half_operands(self) -> frozenset[int] | None:
        """The inputs of which any may be stored as fp16 in place of fp32 for some portable kernel; None: no output may either."""
        arity = self.op.arity if isinstance(self.op, Fusable) else len(self.inputs)
        own = self.kinds[:arity]
        chain = self.op.epilogue() if isinstance(self.op, Fusable) else ()
        steps = [i for op, more in chain for at, i in enumerate(more, start=1) if self.kinds[i].dtype is F32 and at not in op.tables]
        wide = self.wide
        found: list[frozenset[int]] = []
        for kernel in self.op.kernels:
            fits = kernel.isa is None and not kernel.spare and all(kernel.reads(self.op, i, kind.dtype) for i, kind in enumerate(own))
            if fits and kernel.writes_half(self.op) and kernel.accepts(self.op, *own):
                mine = (i for i, kind in enumerate(own) if kind.dtype is F32 and kernel.takes_half(self.op, i))
                found.append(frozenset(i for i in (*mine, *steps) if self.inputs[i] not in wide))
        return max(found, key=len, default=None)

    def with_op(self, **changes: object) -> Node:
        return dataclasses.replace(self, op=dataclasses.replace(self.op, **changes))


@dataclass(frozen=True, eq=False)
class Graph:
    """A straight line of nodes in execution order.

    `updates` maps a PARAM or STATE value to the value that replaces it when the graph has run; until then readers see the old one.
    `results` are the names of several outputs of a model. `lent` maps a PARAM that nodes change where it stands (`Op.lends`) to what the
    last of them makes of it: itself again, but for what arithmetic rounds off; an update starts from there.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    updates: dict[Value, Value] = field(default_factory=dict)
    results: tuple[str, ...] = ()
    lent: dict[Value, Value] = field(default_factory=dict)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the outputs are called, by a person too."""
        return self.results or tuple(v.name for v in self.outputs)

    def values(self) -> list[Value]:
        """Every value that is read or written, once, in order of first appearance."""
        seen: dict[Value, None] = dict.fromkeys(self.inputs)
        for node in self.nodes:
            seen.update(dict.fromkeys(node.inputs))
            seen.update(dict.fromkeys(node.outputs))
        seen.update(dict.fromkeys(self.outputs))
        seen.update(dict.fromkeys(self.updates))
        return list(seen)

    def homes(self) -> dict[Value, Value]:
        """Of each value that nodes make of a lent PARAM where it stands: that PARAM."""
        found: dict[Value, Value] = {}
        for node in self.nodes if self.lent else ():
            if node.op.lends:
                found[node.outputs[0]] = found.get(node.inputs[0], node.inputs[0])
        return found

    def stored(self, *roles: Role) -> list[Value]:
        """Values of the given roles, in order of first appearance."""
        return [v for v in self.values() if v.role in roles]

    def producers(self) -> dict[Value, Node]:
        return {v: node for node in self.nodes for v in node.outputs}

    def readers(self) -> dict[Value, list[Node]]:
        """Who reads a value; graph outputs and updates are not nodes, see `kept`."""
        found: dict[Value, list[Node]] = {v: [] for v in self.values()}
        for node in self.nodes:
            for v in dict.fromkeys(node.inputs):
                found[v].append(node)
        return found

    def needed(self, values: Iterable[Value], given: Container[Value] = ()) -> set[Node]:
        """The nodes that these values are made by, directly or not; what is given is made by none."""
        producers, waiting, found = self.producers(), list(values), set[Node]()
        while waiting:
            value = waiting.pop()
            node = producers.get(value)
            if value not in given and node is not None and node not in found:
                found.add(node)
                waiting += node.inputs
        return found

    def kept(self) -> set[Value]:
        """Values that must exist when the graph has run."""
        return {*self.outputs, *self.updates.values(), *self.lent.values()}

    def replace(self, **changes: Any) -> Graph:
        return dataclasses.replace(self, **changes)

    def substitute(self, mapping: dict[Value, Value], nodes: Iterable[Node] | None = None) -> Graph:
        """Read the mapped value in place of each key, everywhere."""
        def get(v: Value) -> Value:
            while v in mapping:
                v = mapping[v]
            return v

        return self.replace(
            nodes=tuple(
                n if not any(v in mapping for v in n.inputs) else dataclasses.replace(n, inputs=tuple(map(get, n.inputs)))
                for n in (self.nodes if nodes is None else nodes)
            ),
            inputs=self.inputs,
            outputs=tuple(map(get, self.outputs)),
            updates={get(old): get(new) for old, new in self.updates.items()},
            lent={get(old): get(back) for old, back in self.lent.items()},
        )

    def map(self, rule: Callable[[Node], Node | Declined], ops: tuple[type[Op], ...]) -> Graph:
        """Apply a rule to each node of the given op classes; the same object when every node declined."""
        nodes = tuple(rule(n) or n if isinstance(n.op, ops) else n for n in self.nodes)
        same = all(new is old for new, old in zip(nodes, self.nodes, strict=True))
        return self if same else self.replace(nodes=nodes)


def apply_of(train: str) -> str:
    """The entry that applies what this one sums: `apply_1` of `train_1`, and of `replay_1`."""
    return train.replace("train", "apply").replace("replay", "apply")


def replay_of(train: str) -> str:
    """The entry that trains what is drawn from the memory as this one trains a new sample: `replay_1` of `train_1`."""
    return train.replace("train", "replay")


Guards = Literal["none", "rest", "step"]


@dataclass(frozen=True, eq=False)
class Program:
    """What a model can do: one graph per entry point, sharing PARAM, STATE and CONST values.

    Entries: `infer`, `evaluate` (loss, no update), `train` (one sample), and `apply` when gradients are accumulated. The first
    scheme's are called so; those of further schemes, among which the device can switch, `train_1`, `apply_1` and so on.

    `guards`: a sample that is not finite, or whose loss is not, changes nothing; where a gradient is not, `rest` leaves out the updates
    that lie behind it, `step` all of them.

    With a memory, a sample that has trained is kept in it, and `replay` trains with one that is drawn from it, `replays` times behind each
    new one, or behind each `replay_every`-th; `remember` keeps a sample without training, its outputs are what is kept.

    A sample whose loss lies outside of `bounds` is left out of training, unless the device is told others.

    `every`: the device chooses among its schemes every so many steps, 0: it is told; `worth` is then the inverse of what a step of each
    costs.
    """

    name: str
    entries: dict[str, Graph]
    accumulate: int = 1
    guards: Guards = "rest"
    replays: int = 0
    bounds: tuple[float, float] = (0.0, math.inf)
    replay_every: int = 1
    every: int = 0
    worth: tuple[float, ...] = ()

    @property
    def trains(self) -> list[str]:
        """The entry that trains one sample, for each scheme."""
        return [key for key in self.entries if key.partition("_")[0] == "train"]

    @property
    def updating(self) -> list[str]:
        """All entries that lead to an update: of new samples, and of such that are drawn from the memory."""
        return [*self.trains, *(replay_of(train) for train in self.trains if self.replays)]

    def sums(self) -> list[Value]:
        """STATE to which a `train` adds gradients, and which `apply` clears."""
        applied = {old for train in self.trains if (apply := apply_of(train)) in self.entries for old in self.entries[apply].updates}
        return list(dict.fromkeys(old for train in self.trains for old in self.entries[train].updates if old in applied))

    def stored(self, *roles: Role) -> list[Value]:
        seen: dict[Value, None] = {}
        for graph in self.entries.values():
            seen.update(dict.fromkeys(graph.stored(*roles)))
        return list(seen)

    @property
    def firsts(self) -> dict[Value, Value]:
        """Constants that are the first value of a PARAM or STATE, which they share its array with: in flash they are one."""
        homes = {id(v.data): v for v in self.stored(Role.PARAM, Role.STATE) if v.data is not None}
        return {v: homes[id(v.data)] for v in self.stored(Role.CONST) if id(v.data) in homes}

    @property
    def constants(self) -> list[Value]:
        """All others."""
        firsts = self.firsts
        return [v for v in self.stored(Role.CONST) if v not in firsts]

    def map(self, rule: Callable[[Graph], Graph]) -> Program:
        return dataclasses.replace(self, entries={key: rule(graph) for key, graph in self.entries.items()})
