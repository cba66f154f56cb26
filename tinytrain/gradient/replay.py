# SPDX-License-Identifier: Apache-2.0
"""replay: samples, or what the frozen layers make of them, are kept on the device, and train again behind each new one.

    train    x -> frozen -> latent -> trained -> loss -> updates
    →  train    the same, and latent, target -> memory
       remember x -> frozen -> latent;  latent, target -> memory
       replay   memory -> latent, target;  latent -> trained -> loss -> updates

("Latent Replay for Real-Time Continual Learning", arXiv 1912.01100; "Experience Replay for Continual Learning", arXiv 1811.11682)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from tinytrain.errors import ModelError, TinytrainError
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import SEEN, Graph, Node, Program, replay_of
from tinytrain.ir.loss import Loss
from tinytrain.ir.types import F32, S8, S32, U8, Role, TensorType, Value
from tinytrain.ops.dropout import Advance
from tinytrain.ops.replay import Balanced, Draw, Recall, RecallShort, Remember, RememberShort, Reservoir

Stored = Literal["uint8", "int8", "fp32"]
Kept = Literal["latents", "samples"]
Choice = Literal["reservoir", "balanced"]
MOST_SAMPLES, MOST_TIMES = 1 << 16, 16
_SEED = 0x5EED


@dataclass(frozen=True)
class Replay:
    """A memory of so many samples: how their floats are stored, what is kept of them, which stay, and how many train behind a new one, or
    behind each `every`-th."""

    samples: int
    stored: Stored = "uint8"
    kept: Kept = "latents"
    choice: Choice = "reservoir"
    times: int = 1
    every: int = 1

    @classmethod
    def of(cls, text: str) -> Replay:
        """`64`, and behind colons what is not as by default: `64:int8:samples:balanced:x2`. Raises TinytrainError."""
        number, *words = text.split(":")
        found: dict[str, str] = {}
        for word in words:
            kinds = {"stored": Stored, "kept": Kept, "choice": Choice}
            counts = "times" if re.fullmatch(r"x(\d+|1/\d+)", word) else ""
            name = next((name for name, kind in kinds.items() if word in get_args(kind)), counts)
            if not name or name in found:
                raise _no_replay(text, f"{word!r} is {'given beside ' + found[name] if name else 'none of what may stand there'}")
            found[name] = word
        times, _, every = (found.pop("times", "x1")[1:]).partition("/")
        many, is_number = (int(times), int(every or 1)), re.fullmatch(r"\d{1,9}", number, re.ASCII)
        if not is_number or not 1 <= int(number) <= MOST_SAMPLES or not all(1 <= count <= MOST_TIMES for count in many):
            raise _no_replay(text, f"1 to {MOST_SAMPLES:,} samples, and x1/{MOST_TIMES} to x{MOST_TIMES}, can be asked for")
        return cls(int(number), times=many[0], every=many[1], **found)  # type: ignore[arg-type]

    def __str__(self) -> str:
        each = f"x1/{self.every}" if self.every > 1 else f"x{self.times}"
        return f"{self.samples}:{self.stored}:{self.kept}:{self.choice}:{each}"


def _no_replay(text: str, why: str) -> TinytrainError:
    message = f"--replay {text}: {why}; expected a number of samples, and behind colons uint8, int8 or fp32, latents or samples, "
    more = "reservoir or balanced, and x2 for two of them behind each new one, x1/2 for one behind two."
    return TinytrainError(message + more, hint="Try --replay 64.")


@dataclass(frozen=True)
class _Kept:
    """A value of a sample, and the STATE that holds N of it; with their ranges where floats are stored in one byte."""

    value: Value
    kept: Value
    ranges: Value | None

    def remember(self, g: Builder, value: Value, place: Value) -> dict[Value, Value]:
        if self.ranges is None:
            return {self.kept: g.emit(Remember(), value, self.kept, place, name=f"{self.kept.name}_new")}
        kept, ranges = g.emit_all(RememberShort(), value, self.kept, self.ranges, place, name=f"{self.kept.name}_new")
        return {self.kept: kept, self.ranges: ranges}

    def recall(self, g: Builder, place: Value) -> Value:
        name = f"{self.kept.name}_drawn"
        if self.ranges is None:
            return g.emit(Recall(), self.kept, place, name=name)
        return g.emit(RecallShort(), self.kept, self.ranges, place, name=name)


def with_replay(program: Program, replay: Replay) -> Program:
    """Needs a program before any pass. Raises ModelError where it trains nothing, or what is asked for has no effect or no sense."""
    graphs = [program.entries[train] for train in program.trains]
    if not graphs:
        raise ModelError(f"{program.name} trains nothing, so there is nothing to replay.", hint="Leave out --replay, or choose a --loss.")
    steps = _Steps.of(graphs, {v for graph in program.entries.values() for v in graph.updates}, replay)
    memory = _Memory(program.name, steps, replay)
    entries = {**program.entries, "remember": memory.remembering()}
    for graph in steps.graphs:
        entries[graph.name] = memory.kept_too(graph)
        entries[replay_of(graph.name)] = memory.replaying(graph)
    return replace(program, entries=entries, replays=replay.times, replay_every=replay.every)


def _behind(nodes: Sequence[Node], roots: set[Value]) -> set[Node]:
    """The nodes that what follows from these values is made by."""
    reached, found = set(roots), set[Node]()
    for node in nodes:
        if not reached.isdisjoint(node.inputs):
            found.add(node)
            reached.update(node.outputs)
    return found


@dataclass(frozen=True)
class _Steps:
    """What trains by each scheme. `still` has the nodes that no update and no target changes, of all graphs: what is made alike, in two of
    them or again in one, is made by one node. `front` are those that run when a sample comes, but not when it is replayed; `said` is what
    only losses compare with."""

    graphs: Sequence[Graph]
    still: Graph
    front: set[Node]
    said: frozenset[Value]

    @classmethod
    def of(cls, graphs: Sequence[Graph], moving: set[Value], replay: Replay) -> _Steps:
        names = Counter(v.name for v in dict.fromkeys(v for graph in graphs for v in graph.values()))
        g = Builder("replay", (v for graph in graphs for v in graph.values()))
        once: dict[object, Node] = {}
        shared, compared = list[Graph](), set[Value]()
        for graph in graphs:
            changing, alive = _behind(graph.nodes, {*moving, graph.inputs[1]}), graph.needed(graph.kept())
            mapping = {own: one for own, one in zip(graph.inputs, graphs[0].inputs, strict=True) if own is not one}
            nodes = list[Node]()
            for node in (node for node in graph.nodes if node in alive):
                if node not in changing:
                    inputs = tuple(mapping.get(v, v) for v in node.inputs)
                    key = node.op, inputs, tuple(v.type for v in node.outputs)
                    if key not in once:
                        outputs = tuple(v if names[v.name] == 1 else replace(v, name=g.unique(v.name)) for v in node.outputs)
                        once[key] = replace(node, inputs=inputs, outputs=outputs)
                    mapping |= {old: new for old, new in zip(node.outputs, once[key].outputs, strict=True) if old is not new}
                    node = once[key]
                nodes.append(node)
            compared |= {mapping.get(v, v) for node in graph.nodes if isinstance(node.op, Loss) for v in node.inputs[1:]}
            shared.append(graph.replace(inputs=graphs[0].inputs).substitute(mapping, dict.fromkeys(nodes)))
        still = Graph("still", graphs[0].inputs, (), tuple(once.values()))
        said = (v for node in still.nodes for v in node.outputs if v in compared and v.type.dtype is F32)
        made = cls(shared, still, set(), frozenset(said))
        return made if replay.kept == "samples" else made._with_front(replay)

    def _with_front(self, replay: Replay) -> _Steps:
        """The last nodes are left to the replay where they multiply nothing and what they read is smaller; and where the sample itself is
        kept, all that is made of it: but for what only losses compare with, which a whole pass may be behind."""
        def less(front: set[Node]) -> Iterator[set[Node]]:
            now = _bytes(self, front, replay)
            ends = (n for n in self.still.nodes if n in front and n.op.cost(*n.kinds).macs == 0 and self.said.isdisjoint(n.outputs))
            return (front - {node} for node in ends if _bytes(self, front - {node}, replay) < now)

        front = _behind(self.still.nodes, {self.still.inputs[0]})
        while (smaller := next(less(front), None)) is not None:
            front = smaller
        if self.still.inputs[0] in self.frontier(front):
            reads = [v for node in self.nodes if node not in front for v in node.inputs]
            front -= self.still.needed(reads, given=self.said)
        return replace(self, front=front)

    @property
    def nodes(self) -> Iterator[Node]:
        """All of them, each once."""
        yield from dict.fromkeys(node for graph in self.graphs for node in graph.nodes)

    def frontier(self, front: set[Node]) -> list[Value]:
        """What is kept of a sample: values that the front makes, or the sample itself, and others read."""
        made = {self.still.inputs[0], *(v for node in front for v in node.outputs)}
        return [*dict.fromkeys(v for node in self.nodes if node not in front for v in node.inputs if v in made)]

    def stored(self, value: Value, replay: Replay) -> Iterator[TensorType]:
        """Types of what holds N of a value: floats may take one byte each, with a scale, and a zero point of uint8; targets stay as they
        are, and so does what stands for one: errors of theirs are errors of what is learned."""
        kind = value.type
        short = kind.dtype is F32 and replay.stored != "fp32" and value not in self.said
        dtype = (U8 if replay.stored == "uint8" else S8) if short else kind.dtype
        yield TensorType((replay.samples, *kind.shape), dtype, None if short else kind.quant)
        if short:
            yield TensorType((replay.samples, 2 if dtype is U8 else 1))


def _bytes(steps: _Steps, front: set[Node], replay: Replay) -> int:
    return sum(kind.nbytes for v in steps.frontier(front) for kind in steps.stored(v, replay))


def held(program: Program) -> tuple[Value, ...]:
    """What a memory keeps of one sample, beside its target."""
    return program.entries["remember"].outputs


def held_bytes(program: Program) -> int:
    """Bytes of the whole memory in the arena."""
    return sum(v.type.nbytes for v in program.stored(Role.STATE) if v.name.startswith("replay_"))


class _Memory:
    """The STATE that a memory is, and the graphs that use it."""

    def __init__(self, model: str, steps: _Steps, replay: Replay) -> None:
        self.replay, self.steps, self.target_in = replay, steps, steps.still.inputs[1]
        frontier = steps.frontier(steps.front)
        g = Builder("replay", (v for graph in (steps.still, *steps.graphs) for v in graph.values()))
        if replay.stored == "fp32" and not any(v.type.dtype is F32 and v not in steps.said for v in frontier):
            message = f"{model}: what --replay keeps is int8 already, so that fp32 has no effect on it."
            raise ModelError(message, hint="Leave out :fp32.")
        self.values = [self._kept(g, v.name, v, steps.stored(v, replay)) for v in frontier]
        kind = TensorType((replay.samples, *self.target_in.shape), self.target_in.type.dtype)
        self.target = self._kept(g, "target", self.target_in, [kind]) if self._readers() else None
        self.place = self._place(model)
        size = 1 + 2 * self.classes if isinstance(self.place, Balanced) else 1
        self.seen = g.const(SEEN, np.zeros(size, np.int32), Role.STATE)
        self.drawn = g.const("replay_drawn", np.zeros(1, np.int32), Role.STATE)

    def _kept(self, g: Builder, name: str, value: Value, kinds: Iterable[TensorType]) -> _Kept:
        states = [
            g.value(f"replay_{name}{end}", kind, Role.STATE, np.zeros(kind.shape, kind.dtype.np))
            for kind, end in zip(kinds, ("", "_range"), strict=False)
        ]
        return _Kept(value, states[0], states[1] if len(states) > 1 else None)

    def _readers(self) -> list[Node]:
        """Of the target: none where no loss needs labels."""
        return [node for node in self.steps.nodes if self.target_in in node.inputs]

    def _place(self, model: str) -> Reservoir | Balanced:
        samples, target, readers = self.replay.samples, self.target_in, self._readers()
        if self.replay.choice == "reservoir":
            return Reservoir(samples, _SEED)
        if target.type != TensorType((1,), S32) or not readers:
            message = f"{model}: --replay {self.replay} balances classes, but a sample has no single label; found a target {target.type}."
            raise ModelError(message, hint="Leave out :balanced: a reservoir asks for no label.")
        self.classes = readers[0].inputs[0].type.numel
        if samples < self.classes:
            message = f"{model}: --replay {self.replay} holds {samples} samples of {self.classes} classes; expected one of each at least."
            raise ModelError(message, hint=f"Try --replay {4 * self.classes}:balanced.")
        return Balanced(samples, _SEED)

    @property
    def _all(self) -> list[_Kept]:
        return [*self.values, *([self.target] if self.target else [])]

    def _remember(self, g: Builder) -> dict[Value, Value]:
        """Emit what keeps a sample; the updates of it."""
        g.origin = "replay"
        more = (self.target_in, self.target.kept) if isinstance(self.place, Balanced) and self.target else ()
        place, seen = g.emit_all(self.place, self.seen, *more, name="replay_place")
        updates = {self.seen: seen}
        for one in self._all:
            updates |= one.remember(g, one.value, place)
        return updates

    def _builder(self, name: str, graph: Graph, nodes: Iterable[Node]) -> Builder:
        states = (self.seen, self.drawn, *(v for one in self._all for v in (one.kept, one.ranges) if v))
        return Builder(name, (*graph.values(), *self.steps.still.values(), *states), nodes)

    def _made(self) -> list[Node]:
        """What makes all that is kept of a sample."""
        needed = self.steps.still.needed(one.value for one in self.values)
        return [node for node in self.steps.still.nodes if node in needed]

    def kept_too(self, graph: Graph) -> Graph:
        """A training graph that keeps its sample, with what only others make of it."""
        g = self._builder(graph.name, graph, dict.fromkeys((*graph.nodes, *self._made())))
        updates = self._remember(g)
        return graph.replace(nodes=tuple(g.nodes), updates={**graph.updates, **updates})

    def remembering(self) -> Graph:
        """What keeps a sample without training."""
        g = self._builder("remember", self.steps.still, self._made())
        g.inputs = list(self.steps.still.inputs)
        updates = self._remember(g)
        return g.graph([one.value for one in self.values], updates)

    def replaying(self, graph: Graph) -> Graph:
        """What trains with a sample of the memory."""
        g = self._builder(replay_of(graph.name), graph, ())
        g.origin = "replay"
        place = g.emit(Draw(self.replay.samples, _SEED + 1), self.seen, self.drawn, name="replay_drawn_place")
        mapping = {one.value: one.recall(g, place) for one in self._all}
        after = g.emit(Advance(), self.drawn, name="replay_drawn_next")
        nodes = (*g.nodes, *(node for node in graph.nodes if node not in self.steps.front))
        outputs = tuple(v for v in graph.outputs if v not in graph.inputs)
        made = graph.replace(name=g.name, inputs=(), outputs=outputs, nodes=nodes, updates={**graph.updates, self.drawn: after})
        return made.substitute(mapping)
