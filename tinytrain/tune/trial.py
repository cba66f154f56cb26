# SPDX-License-Identifier: Apache-2.0
"""What is tried: a call of a program, on what it reads in a real step, with the C of every kernel that it could have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinytrain.emit.golden import first_sample
from tinytrain.emit.kernels import KernelCall, environment, render
from tinytrain.emit.select import Choice, Kernels, call_text
from tinytrain.emit.tuned import headers_of, made_of
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.types import Array, DType, TensorType, Value
from tinytrain.target.board import Board
from tinytrain.target.isa import headers
from tinytrain.verify.reference import cast, run

GUARD_BYTES = 16
STEM = "tried_{}"                                         # what the symbol of a choice begins with, by its number


@dataclass(frozen=True)
class Trial:
    """All that a worker needs: `choices` are texts, in the order of the functions in `source`; the first is what the op's list says.

    `want` is what is right for `inputs`, by the reference; `made` and `headers` as in a table's entry; `origin` is for messages.
    """

    call: str
    origin: str
    board: str
    choices: tuple[str, ...]
    source: str
    header: str
    arena_bytes: int
    inputs: tuple[bytes, ...] = field(repr=False)
    want: tuple[Array, ...] = field(compare=False, repr=False)
    dtypes: tuple[DType, ...] = ()
    made: str = ""
    headers: str = ""


def trials(program: Program, board: Board, *, least: int = 2) -> list[Trial]:
    """The distinct calls of a program that have at least so many choices, those of training first."""
    kernels, found = Kernels(board.isa), dict[str, Trial]()
    with np.errstate(all="ignore"):
        for graph, read in _runs(program):
            for node in graph.nodes:
                if node.op.view or (call := call_text(node)) in found:
                    continue
                choices = kernels.choices(node)
                if len(choices) >= least:
                    arrays = [read[v] for v in node.inputs]
                    found[call] = trial(node, arrays, choices, board)
    return list(found.values())


def _runs(program: Program) -> Iterator[tuple[Graph, dict[Value, Array]]]:
    """Each entry with every value that a node reads, in a run on a made sample; training first, as it has most of the calls."""
    sample = first_sample(program)
    for _, graph in sorted(program.entries.items(), key=lambda entry: entry[0].partition("_")[0] != "train"):
        shaped = [np.reshape(array, v.shape) for v, array in zip(graph.inputs, sample, strict=False)]
        read = dict.fromkeys(v for node in graph.nodes for v in node.inputs)
        yield graph, run(graph, shaped, keep=read).values


def trial(node: Node, arrays: Sequence[Array], choices: Sequence[Choice], board: Board) -> Trial:
    """Of choices that give the same C only the first is tried."""
    calls: dict[str, tuple[Choice, KernelCall]] = {}
    for choice in choices:
        call = KernelCall.of(node, choice)
        calls.setdefault(f"{render(call, 'same')}{bool(call.kernel.scratch)}", (choice, call))
    made = [choice for choice, _ in calls.values()]
    sizes = [*(v.type.nbytes for v in (*node.inputs, *node.outputs)), max(call.scratch_bytes for _, call in calls.values())]
    arena = GUARD_BYTES + sum((size + GUARD_BYTES + 15) // 16 * 16 for size in sizes)
    header = environment().get_template("trial.h.j2").render(
        inputs=len(node.inputs), outputs=len(node.outputs), buffers=len(sizes), bytes=arena, guard_bytes=GUARD_BYTES
    )
    functions = [_function(call, STEM.format(number)) for number, (_, call) in enumerate(calls.values())]
    source = environment().get_template("trial.c.j2").render(
        fused=board.fused, headers=headers({call.kernel.isa for _, call in calls.values() if call.kernel.isa}), functions=functions,
        calls=[f"{STEM.format(number)}_call" for number in range(len(calls))], sizes=sizes,
    )
    stored = [cast(v, array) for v, array in zip(node.inputs, arrays, strict=True)]
    want = node.op.reference(*(a.astype(np.float32) if a.dtype == np.float16 else a for a in stored))
    return Trial(
        call_text(node), node.origin, board.name, tuple(map(str, made)), source, header, arena, tuple(a.tobytes() for a in stored),
        tuple(cast(v, array) for v, array in zip(node.outputs, want, strict=True)), tuple(v.type.dtype for v in node.outputs),
        made_of(node, made[0]), headers_of(board.isa),
    )


def _function(call: KernelCall, symbol: str) -> str:
    """The kernel, and the same with one signature for all."""
    def pointer(kind: TensorType, const: str, at: int) -> str:
        return f"({const}{kind.dtype.c} *)(void *)b[{at}]"

    arguments = [*(pointer(t, "const ", i) for i, t in enumerate(call.ins))]
    arguments += [pointer(t, "", i) for i, t in enumerate(call.outs, start=len(call.ins))]
    arguments += [f"b[{len(call.ins) + len(call.outs)}]"] if call.kernel.scratch else []
    return f"{render(call, symbol)}\nstatic void {symbol}_call(unsigned char *const *b)\n{{\n    {symbol}({', '.join(arguments)});\n}}\n"
