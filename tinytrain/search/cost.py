# SPDX-License-Identifier: Apache-2.0
"""What a scheme costs on a board: what it trains, what it keeps, what it computes, and what the planner says.

Nothing here is a proxy: the program is built and planned as `compile` does it. Only instructions and code are estimates, from counts
measured under emulation (instructions.py).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tinytrain.compiler import Options, load_forward, lowered
from tinytrain.emit.fit import Room, needs_of, reserved_bytes, room
from tinytrain.emit.instructions import Taken, data_bytes, load_table
from tinytrain.emit.select import Kernels
from tinytrain.emit.step import Estimate, estimate
from tinytrain.emit.tuned import Tuning
from tinytrain.gradient.methods import method
from tinytrain.gradient.train_step import build_program
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.op import registry
from tinytrain.ir.types import Role, Value
from tinytrain.planner import Plan, ProgramPlan, plan_program
from tinytrain.planner.updates import contents
from tinytrain.schemes.scheme import Scheme, layers
from tinytrain.target.board import Board, load_board


@dataclass(frozen=True)
class LayerCost:
    """The part of one layer, and of what follows it up to the next: elements updated, bytes kept for its gradients, work of going back."""

    layer: str
    weights: int = 0
    biases: int = 0
    updated_bytes: int = 0
    saved_bytes: int = 0
    backward_macs: int = 0
    instructions: int | None = None


@dataclass(frozen=True)
class SchemeCost:
    """Totals of a training step.

    `weights` and `biases` are updated elements (biases: all that has one dimension, γ and β among them), `updated_bytes` their size;
    `saved_bytes` are activations alive from the forward into the backward pass; `ram_bytes` is the planned arena with parameters,
    optimiser and one sample, buffers (a target, outputs, the link), and the reserved stack; `flash_bytes` are constants and initial
    values (`data_bytes`, exact) and the estimated code; `estimate` is None for a core whose kernels were never counted. `room` is what
    the firmware leaves of the board, None on the host.
    """

    weights: int
    biases: int
    updated_bytes: int
    saved_bytes: int
    forward_macs: int
    backward_macs: int
    arena_bytes: int
    ram_bytes: int
    data_bytes: int
    flash_bytes: int
    estimate: Estimate | None
    layers: tuple[LayerCost, ...]
    room: Room | None

    @property
    def instructions(self) -> int | None:
        return self.estimate.instructions if self.estimate else None

    @property
    def cycles(self) -> int | None:
        return self.estimate.cycles if self.estimate else None


class Costs:
    """A model on a board, read once; each scheme is built and planned once. `exact_seconds` as `plan_program` takes it.

    Raises what compiling raises, but for DoesNotFit: a scheme may cost more than any board has.
    """

    def __init__(self, model: Path, options: Options, exact_seconds: float = 0.0) -> None:
        self.options = options
        self.prepared, imported, self.forward = load_forward(model, options)
        self.frozen = imported.constants.frozen(self.forward)
        self.layers = layers(self.forward)
        self.exact_seconds = exact_seconds
        self._last: dict[tuple[object, ...], tuple[Program, ProgramPlan]] = {}
        self._place(load_board(options.board).with_cores(options.cores))

    def _place(self, board: Board) -> None:
        self.board = board
        self.tuning = Tuning.of(board, self.options.optimise, self.options.tuned)
        self._table = load_table(board.core)
        self._known: dict[str, SchemeCost] = {}

    def on(self, board: Board) -> Costs:
        """The same model on another board. What is planned for one holds for the next, where the two have the same kernels."""
        other = copy.copy(self)
        other._place(board)
        return other

    @property
    def family(self) -> tuple[object, ...]:
        """What boards have in common for which a program has the same kernels, and so the same plan."""
        tables = tuple(table.processor for table in self.tuning.tables)
        return tuple(sorted(_telling().intersection(self.board.isa))), self.board.cores, tables

    def program(self, scheme: Scheme) -> Program:
        """The training program of a scheme, through all passes."""
        learning = method(self.options.method)
        chosen = self.options
        made = build_program(
            self.forward, chosen.objective, scheme, chosen.rule, method=learning, distil=chosen.distil, elastic=chosen.elastic
        )
        return lowered(made, chosen)

    def planned(self, scheme: Scheme, exact_seconds: float | None = None) -> tuple[Program, ProgramPlan]:
        """The training program of a scheme and its plan; asked again right away, the same ones."""
        seconds = self.exact_seconds if exact_seconds is None else exact_seconds
        key = (scheme.to_toml(), seconds, self.family)
        if key not in self._last:
            program = self.program(scheme)
            plan = plan_program(program, align=8, needs=needs_of(self.tuning.kernels(program)), exact_seconds=seconds)
            self._last.clear()
            self._last[key] = program, plan
        return self._last[key]

    def cost(self, scheme: Scheme, exact_seconds: float | None = None) -> SchemeCost:
        """What a scheme costs; the same one is planned only once."""
        exact_seconds = self.exact_seconds if exact_seconds is None else exact_seconds
        key = f"{exact_seconds} {scheme.to_toml()}"
        if key not in self._known:
            self._known[key] = self._sum(*self.planned(scheme, exact_seconds))
        return self._known[key]

    @property
    def plans(self) -> int:
        """How many were made."""
        return len(self._known)

    @property
    def counted(self) -> bool:
        """Whether the instructions of this board's kernels are known."""
        return self._table is not None

    def taken(self, node: Node, kernels: Kernels, entry: Plan | None = None) -> Taken:
        """By one call, in an entry as it is planned: counted, or an estimate."""
        if self._table is None or node.op.view:
            return Taken(0, 0)
        return self._table.taken(node, kernels.select(node, spare=entry.room(node) if entry else True))

    def _sum(self, program: Program, plan: ProgramPlan) -> SchemeCost:
        train, kernels = plan.entries["train"], self.tuning.kernels(program)
        forward = train.graph.needed(train.graph.outputs[:1])
        parts = self._by_layer(program, train, kernels, forward)
        macs = {node: _macs(node) for node in train.graph.nodes}
        found, data = estimate(program, plan, kernels, self.board), data_bytes(program)
        code_bytes = found.code_bytes if found else 0
        return SchemeCost(
            weights=sum(p.weights for p in parts), biases=sum(p.biases for p in parts), updated_bytes=sum(p.updated_bytes for p in parts),
            saved_bytes=sum(p.saved_bytes for p in parts),
            forward_macs=sum(n for node, n in macs.items() if node in forward),
            backward_macs=sum(n for node, n in macs.items() if node not in forward),
            arena_bytes=plan.arena_bytes, ram_bytes=plan.arena_bytes + reserved_bytes(program, self.board),
            data_bytes=data, flash_bytes=data + code_bytes, estimate=found, layers=tuple(parts),
            room=room(program, plan, self.board, code_bytes),
        )

    def _by_layer(self, program: Program, train: Plan, kernels: Kernels, forward: set[Node]) -> list[LayerCost]:
        """What each layer has its share in."""
        names = [layer.name for layer in self.layers] or [self.forward.name]
        kinds = {v.name: layer.name for layer in self.layers for v in layer.parameters.values()}
        owner = _owners(self.forward, names, kinds)
        sums: dict[str, dict[str, float]] = {name: {} for name in names}

        def add(layer: str, what: str, amount: float) -> None:
            sums[layer][what] = sums[layer].get(what, 0) + amount

        for v in (v for v in program.stored(Role.PARAM) if v.name in kinds):
            add(kinds[v.name], "biases" if len(v.shape) == 1 else "weights", v.type.numel)
            add(kinds[v.name], "updated_bytes", v.type.nbytes)
        for value, reader in saved(train.graph, forward).items():
            add(owner.get(reader.origin, names[-1]), "saved_bytes", value.type.nbytes)
        for node in train.graph.nodes:
            if node in forward:
                continue
            layer = owner.get(node.origin, names[-1])
            add(layer, "backward_macs", _macs(node))
            add(layer, "instructions", self.taken(node, kernels, train).instructions)
        whole = {name: {what: round(amount) for what, amount in each.items()} for name, each in sums.items()}
        if self._table is None:
            whole = {name: {**each, "instructions": None} for name, each in whole.items()}  # type: ignore[dict-item]
        return [LayerCost(name, **whole[name]) for name in names]


@cache
def _telling() -> frozenset[str]:
    """The instruction sets by which kernels are told apart."""
    kernels = [kernel for op in registry().values() for kernel in op.kernels]
    return frozenset(tag for kernel in kernels for tag in (kernel.isa, *kernel.pays_without) if tag)


def _owners(forward: Graph, names: list[str], kinds: Mapping[str, str]) -> dict[str, str]:
    """Origin of a node → the layer it belongs to: its own, or the last one before it."""
    found, layer = dict(kinds), names[0]
    for node in forward.nodes:
        layer = node.origin if node.origin in names else layer
        found.setdefault(node.origin, layer)
    return found


def _macs(node: Node) -> int:
    return node.op.cost(*node.kinds).macs


def saved(train: Graph, forward: set[Node]) -> dict[Value, Node]:
    """TEMP values that exist before the loss is known and are read behind it, with who reads them first; a view is what it shows."""
    turn = max(i for i, node in enumerate(train.nodes) if node in forward)
    shown = contents(train)
    made = {v for node in train.nodes[: turn + 1] if not node.op.view for v in node.outputs}
    found: dict[Value, Node] = {}
    for node in train.nodes[turn + 1 :]:
        if not node.op.view:
            for root in (shown[v] for v in node.inputs):
                if root in made:
                    found.setdefault(root, node)
    return found
