# SPDX-License-Identifier: Apache-2.0
"""Program + plan → the C text of the model: `NAME.c`, `NAME.h`, and with that beginning `_config.h`, `_kernels.h` and `_weights.h`."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np

from tinytrain.emit.config import data_of
from tinytrain.emit.guards import INFINITE, Watch, limit, most_bits, watch
from tinytrain.emit.kernels import KernelCall, environment, render
from tinytrain.emit.records import CRecord, given, label_classes, results
from tinytrain.emit.select import Kernels
from tinytrain.errors import printable
from tinytrain.ir.graph import CHOICE, FALLS, LEARNING_RATE, LOSS_SCALE, SEEN, TRIALS, Node, Program, apply_of, replay_of
from tinytrain.ir.types import F16, F32, S32, Array, Role, Value
from tinytrain.ir.words import literal
from tinytrain.ops.loss_scale import EXPONENT, IN_A_ROW, PATIENCE, SKIPPED
from tinytrain.planner import Plan, ProgramPlan
from tinytrain.planner.updates import contents, starts
from tinytrain.target.board import Board
from tinytrain.target.isa import headers

ARENA_ALIGN = 16


@dataclass(frozen=True)
class CVariable:
    """One array in flash: C name, C type, number of elements, text of the elements; `memory` is "" where the code is too."""

    name: str
    type: str
    count: int
    text: str
    memory: str


@dataclass(frozen=True)
class CParam:
    """A PARAM or STATE at its place in the arena; `initial` is the flash array it starts from, "" for zeros."""

    key: str
    offset: int
    bytes: int
    tag: str
    initial: str


@dataclass(frozen=True)
class CLook:
    """Floats that are looked at: whether one is above the limit, or, `measured`, how large all are together; `offset` is where those begin
    in the arena, None for a sample."""

    at: str
    count: int
    measured: bool
    offset: int | None = None


@dataclass(frozen=True)
class CPiece:
    """A call, and what is looked at behind it."""

    call: str
    looks: list[CLook]


@dataclass(frozen=True)
class CScheme:
    """How one scheme trains: calls up to the loss, where that stands, what is looked at there, calls behind it, calls that apply summed
    gradients, and calls that evaluate the sample again where the device tries out schemes. `limit` are the bits of a float that is as good
    as infinite, `room` is what the sizes of what is measured may sum up to."""

    forward: list[str]
    loss: str
    looks: list[CLook]
    backward: list[CPiece]
    apply: list[str]
    again: list[str]
    limit: int
    room: int

    @property
    def pieces(self) -> int:
        """The most calls that one step makes."""
        return len(self.forward) + len(self.backward) + len(self.apply) + len(self.again)


@dataclass(frozen=True)
class CRemember:
    """How a sample is kept without training: what is looked at of it, calls up to what is kept, what is looked at of that, calls behind."""

    sample: list[CLook]
    before: list[str]
    latents: list[CLook]
    behind: list[str]


class Emitter:
    """Names the kernels, places the values and renders the templates for one program on one board.

    `elsewhere` names the memory of constants that are not beside the code; `chosen` None: kernels as their ops list them. `class_names`: of
    the model's output, where they are known.
    """

    def __init__(
        self, program: Program, plan: ProgramPlan, board: Board, model_hash: bytes, elsewhere: Mapping[Value, str] | None = None,
        chosen: Kernels | None = None, class_names: Sequence[str] = (),
    ) -> None:
        self.program = program
        self.plan = plan
        self.chosen = chosen or Kernels(board.isa, cores=board.cores)
        self.fused = board.fused
        self.model_hash = model_hash
        self.elsewhere = elsewhere or {}
        self.class_names = class_names
        self.firsts = program.firsts
        self.symbols: dict[KernelCall, str] = {}
        self.consts: dict[Value, str] = {}
        self.records = self._records()

    def files(self) -> dict[str, str]:
        """File name → text."""
        name = self.program.name
        entries = self._entries
        params = {v: self._param(v, key) for v, key in link_keys(self.program).items()}
        weights, state = (tuple(p for v, p in params.items() if v.role is role) for role in (Role.PARAM, Role.STATE))
        context: dict[str, Any] = {
            **self._about(), "hash": list(self.model_hash),
            "accumulate": self.program.accumulate, "entries": entries,
            "params": [*weights, *state], "weights": len(weights), "layouts": [layout(weights), layout(state)],
            "sums": [params[v] for v in self.program.sums()],
            "schemes": (schemes := [self.schemes[train] for train in self.program.trains]),
            "replayed": (replayed := [self.schemes[replay_of(train)] for train in self.program.trains if self.program.replays]),
            "train_pieces": self.train_pieces, "remember": self._remember() if self.program.replays else None,
            "lends": any(graph.lent for graph in self.program.entries.values()),
            "infinite": INFINITE, "bounds": [_bits(loss) for loss in self.program.bounds],
            "sample": self._sample(), "measures": any(scheme.room for scheme in (*schemes, *replayed)),
            "lr": next((p for v, p in params.items() if v.name == LEARNING_RATE), None),
            "seen": next((p.offset for v, p in params.items() if v.name == SEEN), None),
            "overflow": next((_overflow(p) for v, p in params.items() if v.name == LOSS_SCALE), None),
            "green": self._choosing(params) if self.program.every else None,
            **self._interface(),
        }
        kernels = [render(call, symbol) for call, symbol in self.symbols.items()]
        context["kernels"] = kernels
        context["fused"] = self.fused
        context["cores"] = self.chosen.cores
        context["headers"] = headers({call.kernel.isa for call in self.symbols if call.kernel.isa})
        context["consts"] = [self._variable(v, c) for v, c in self.consts.items()]
        templates = {f"{name}.{kind}": f"model.{kind}" for kind in "hc"}
        templates |= {f"{name}_{file}": file for file in ("config.h", "kernels.h", "weights.h")}
        return {file: environment().get_template(f"{template}.j2").render(context) for file, template in templates.items()}

    def readme(self, board: Board, stack_bytes: int) -> str:
        """Text of the project's README.md; `stack_bytes` is what its firmware reserves."""
        return environment().get_template("README.md.j2").render(self._about(), board=board, stack_bytes=stack_bytes).lstrip("\n")

    def _choosing(self, params: Mapping[Value, CParam]) -> dict[str, Any]:
        """How the device chooses among its schemes, and where it keeps what it knows of them."""
        at = {v.name: param.offset for v, param in params.items()}
        return {
            "every": self.program.every, "trials": TRIALS * len(self.program.trains), "choice": at[CHOICE], "falls": at[FALLS],
            "worth": [literal(worth) for worth in self.program.worth],
        }

    def _about(self) -> dict[str, Any]:
        """Names, sizes, and what goes in and out."""
        name, (x, target, y) = self.program.name, (self.records[key] for key in ("x", "target", "y"))
        kinds = (("input", x, True), ("output", y, False), ("target", target, True))
        data = [one for kind, record, given in kinds if record for one in data_of(name, kind, record, given=given)]
        weights, state = (sum(v.type.nbytes for v in self.program.stored(role)) for role in (Role.PARAM, Role.STATE))
        return {
            "guards": "" if self.program.guards == "none" else self.program.guards, "replays": self.program.replays,
            "replay_every": self.program.replay_every,
            "name": name, "NAME": name.upper(), "weight_bytes": weights, "state_bytes": state, "align": ARENA_ALIGN,
            "arena_bytes": max(self.plan.arena_bytes, ARENA_ALIGN),
            "input_offset": self.plan.input_offset, **self.records, "data": data,
            "quantised": [one for one in data if one.quantised and one.given], "class_names": [string(text) for text in self.class_names],
            "classes": len(self.class_names) or (target.parts[0].classes if target and len(target.parts) == 1 else 0),
        }

    def _interface(self) -> dict[str, Any]:
        """How entry points give back what they compute."""
        return {
            "copies": {key: self._outputs(plan) for key, plan in self.plan.entries.items() if key in ("infer", "evaluate")},
            "loss_at": self._at(evaluate, evaluate.graph.outputs[0]) if (evaluate := self.plan.entries.get("evaluate")) else "",
        }

    def _records(self) -> dict[str, CRecord | None]:
        """What x, target and y point to; None where nothing is trained."""
        infer, evaluate = self.program.entries["infer"], self.program.entries.get("evaluate")
        x, target, y = (f"{self.program.name}_{kind}" for kind in ("input", "target", "output"))
        classes = label_classes(evaluate) if evaluate else {}
        return {
            "x": given(infer.inputs[0], "x", x), "y": results(infer, y),
            "target": given(evaluate.inputs[1], "target", target, classes) if evaluate else None,
        }

    def _outputs(self, plan: Plan) -> list[tuple[str, str, int]]:
        """(C of where it goes, C of where it is, bytes) of each output of the model."""
        y = self.records["y"]
        assert y is not None
        outputs = plan.graph.outputs[-len(y.parts) :]
        return [(y.at(part.offset), self._at(plan, v), v.type.nbytes) for part, v in zip(y.parts, outputs, strict=True)]

    @cached_property
    def _entries(self) -> dict[str, list[str]]:
        return {key: self._entry(plan) for key, plan in self.plan.entries.items()}

    @cached_property
    def schemes(self) -> dict[str, CScheme]:
        """How each trains, with a new sample and with one of the memory, by its entry point."""
        return {train: self._scheme(train, self._entries) for train in self.program.updating}

    @property
    def train_pieces(self) -> int:
        """The most calls that one step makes, with those of the memory's samples."""
        each = [(self.schemes[train], self.schemes.get(replay_of(train))) for train in self.program.trains]
        return max((new.pieces + (old.pieces * self.program.replays if old else 0) for new, old in each), default=0)

    def _remember(self) -> CRemember:
        """As with training: what is kept is known before anything stored is written."""
        plan, lines = self.plan.entries["remember"], self._entries["remember"]
        calls = [node for node in plan.graph.nodes if not node.op.view]
        content = contents(plan.graph)
        kept = dict.fromkeys(content[v] for v in plan.graph.outputs)
        known = max((i for i, node in enumerate(calls, start=1) if not kept.keys().isdisjoint(node.outputs)), default=0)
        looked = [v for v in kept if v.type.dtype is F32 and v.role is Role.TEMP and self.program.guards != "none"]
        sample = [CLook(look.at, look.count, False) for look, _ in self._sample()]
        return CRemember(sample, lines[:known], [CLook(self._at(plan, v), v.type.numel, False) for v in looked], lines[known:])

    def _entry(self, plan: Plan) -> list[str]:
        """The calls of one entry point, in order."""
        lines = [self._call(plan, node) for node in plan.graph.nodes if not node.op.view]
        lines += [
            f"copy_bytes({self._at(plan, old)}, {self._at(plan, new)}, {old.type.nbytes});    /* {old.name} is updated */"
            for old, new in plan.copies
        ]
        return lines

    def _scheme(self, train: str, entries: dict[str, list[str]]) -> CScheme:
        """Nothing stored is written before the loss is known: the planner sees to that, and its checker too."""
        plan, lines = self.plan.entries[train], entries[train]
        seen = contents(plan.graph)[plan.graph.outputs[0]]
        last = next(i for i, node in enumerate(plan.graph.nodes) if seen in node.outputs)
        known = sum(not node.op.view for node in plan.graph.nodes[: last + 1])
        looks: dict[Node | None, list[CLook]] = {}
        watch = self._watches[train]
        for v, node in (watch.looked | watch.measured).items():
            behind = node if node in plan.graph.nodes[last + 1 :] else None
            if v.role is not Role.INPUT:
                looks.setdefault(behind, []).append(CLook(self._at(plan, v), v.type.numel, v in watch.measured, plan.offsets[v]))
        calls = [node for node in plan.graph.nodes if not node.op.view]
        backward = [CPiece(line, looks.get(node, [])) for node, line in zip_longest(calls[known:], lines[known:])]
        return CScheme(
            lines[:known], self._at(plan, plan.graph.outputs[0]), looks.get(None, []), backward, entries.get(apply_of(train), []),
            entries["evaluate"] if self.program.every and train in self.program.trains else [], limit(plan.graph), watch.room,
        )

    @cached_property
    def _watches(self) -> dict[str, Watch]:
        """What each scheme looks at; nothing where floats are stored as fp16, which the graph itself looks at."""
        looks = self.program.guards != "none" and not any(v.name == LOSS_SCALE for v in self.plan.fixed)
        return {train: watch(self.plan.entries[train]) if looks else Watch({}) for train in self.program.updating}

    def _sample(self) -> list[tuple[CLook, int]]:
        """The floats that a caller gives, and what is too large: bits of a float, or a size. Of targets all numbers are taken."""
        graphs = [self.plan.entries[train].graph for train in self.program.trains]
        watches = [self._watches[train] for train in self.program.trains]
        measured = any(v.role is Role.INPUT for watch in watches for v in watch.measured)
        read = measured or any(v.role is Role.INPUT for watch in watches for v in watch.looked)
        most = min((most_bits(graph) // 2 if measured else limit(graph) for graph in graphs), default=0) if read else INFINITE
        return [
            (CLook(record.at(part.offset), part.type.numel, measured and record is self.records["x"]), bits)
            for record, bits in ((self.records["x"], most), (self.records["target"], INFINITE))
            if record and self.program.guards != "none" for part in record.parts if part.type.dtype is F32
        ]

    def _call(self, plan: Plan, node: Node) -> str:
        choice = self.chosen.select(node, spare=plan.room(node)).choice
        pairs = [(i, o) for i in range(len(node.inputs)) for o in range(len(node.outputs))]
        shared = [(i, o) for i, o in pairs if plan.offsets.get(node.inputs[i]) == plan.offsets[node.outputs[o]]]
        call, kernel = KernelCall.of(node, choice, self.chosen.cores).sharing(shared), choice.kernel
        symbol = self.symbols.setdefault(call, f"{call.stem}_{len(self.symbols)}")
        args = [self._at(plan, v) for v in (*(node.inputs[i] for i in call.passed), *node.outputs)]
        if kernel.spare:
            args.append(f"m + {plan.spare[node][0]}")
        elif node in plan.scratch_offsets:
            args.append(f"m + {plan.scratch_offsets[node]}")
        elif kernel.scratch:
            args.append("m")
        return f"{symbol}({', '.join(args)});    /* {comment(node.origin)} */"

    def _at(self, plan: Plan, value: Value) -> str:
        """C expression of the address of a value."""
        root = plan.root(value)
        if root.role is Role.INPUT:
            given_as = self.records["x" if root is plan.graph.inputs[0] else "target"]
            assert given_as is not None
            return given_as.at(starts(plan.graph).get(value, 0))
        if root.role is Role.CONST:
            return self._const(root)
        return f"TT_AT({value.type.dtype.c}, {plan.offsets[value]})"

    def _const(self, v: Value) -> str:
        """Name of an array in flash; without `data` a weight called `init` would be the function of that name."""
        v = self.firsts.get(v, v)
        return self.consts.setdefault(v, f"{self.program.name}_data_{v.name}")

    def _param(self, v: Value, key: str) -> CParam:
        assert v.data is not None
        return CParam(string(key), self.plan.fixed[v], v.type.nbytes, f"TT_{v.type.dtype.name}", self._const(v) if np.any(v.data) else "")

    def _variable(self, v: Value, name: str) -> CVariable:
        assert v.data is not None
        return CVariable(name, v.type.dtype.c, v.type.numel, array_text(v.data), self.elsewhere.get(v, ""))


def layout(params: Sequence[CParam]) -> str:
    """C of a hash by which firmware knows whether tensors that it finds stored are its own: names, types, sizes and order."""
    text = "".join(f"{p.key} {p.tag} {p.bytes}\n" for p in params)
    return f"UINT32_C(0x{zlib.crc32(text.encode()):08X})"


def link_keys(program: Program) -> dict[Value, str]:
    """What the PARAM and STATE of a program are called over the link: as in the ONNX file, and otherwise unlike any of those.

    A weight that several schemes train in part has pieces: the first has its name, the others a number behind it.
    """
    stored = program.stored(Role.PARAM, Role.STATE)
    pieces: dict[str, list[Value]] = {}
    for v in stored:
        if v.source:
            pieces.setdefault(v.source.initializer, []).append(v)
    keys = {found[0]: name for name, found in pieces.items()}
    wanted = {v: f"{name}/{number}" for name, found in pieces.items() for number, v in enumerate(found)}
    for v in stored:
        key = wanted.get(v, v.name)
        while v not in keys and key in keys.values():
            key += "_"
        keys.setdefault(v, key)
    return {v: keys[v] for v in stored}


def _overflow(record: CParam) -> dict[str, int]:
    """Where the scale of gradients stands, how many steps have overflowed, how many in a row; at how many of these training fails."""
    at = (record.offset + i * S32.np.itemsize for i in (EXPONENT, SKIPPED, IN_A_ROW))
    return {**dict(zip(("exponent", "steps", "offset"), at, strict=True)), "patience": PATIENCE}


def comment(text: str) -> str:
    """Text that neither ends a C comment nor seems to begin another one, on one line."""
    return re.sub(r"[*/](?=[*/])", r"\g<0> ", printable(text))


def string(text: str) -> str:
    """What stands between the quotes of a C string: UTF-8, with octal escapes for all that is not plain; `?` may begin a trigraph."""
    return "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())


def array_text(data: Array, per_line: int = 8) -> str:
    """Elements of a C initialiser; floats in nine digits, which give back every bit."""
    assert np.isfinite(data).all(), f"{data} is not finite"
    flat = data.reshape(-1)
    if data.dtype == F16.np:
        flat = flat.view(np.uint16)                       # C99 has no constants of halves
    words = [f"{x:.8e}f" for x in flat.tolist()] if data.dtype == F32.np else [str(x) for x in flat.tolist()]
    return ",\n    ".join(", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line))


def _bits(loss: float) -> str:
    """A loss as a context keeps it: its bits, all but the sign where there is no bound."""
    bits = int(np.float32(loss).view(np.uint32)) if math.isfinite(loss) else 0x7FFFFFFF
    return f"UINT32_C(0x{bits:08X})" if bits else "0"
