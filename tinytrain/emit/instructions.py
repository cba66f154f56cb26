# SPDX-License-Identifier: Apache-2.0
"""How many instructions, and how many estimated cycles, a kernel takes on a core: tables of factors, fitted to counts from emulators.

instructions = call + Σ factor·amount of the kernel's work (`Kernel.work`),  + out·outputs of each op of the epilogue

Each kernel has its own factors, and so has an op of an epilogue for each way in which elements are stored: one by one, or as many as a
vector has lanes. What `tinytrain tune` counted is taken as it is. `instructions.json` holds the factors;
`python benchmarks/instructions.py` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tinytrain.emit.kernels import KernelCall, KernelContext
from tinytrain.emit.select import Choice, Kernels, Selection
from tinytrain.ir.graph import Node, Program
from tinytrain.ir.op import Fusable, Op
from tinytrain.ir.types import DType, Role
from tinytrain.planner import ProgramPlan
from tinytrain.target.timing import load_core

TABLE = Path(__file__).with_name("instructions.json")
GUARD = "guard f32"                                       # a look at floats (tt_guard.h), beside the kernels
SORTS = ("base", "float", "float update", "integer", "integer update")


@dataclass(frozen=True)
class Work:
    """What one kernel, or one op of its epilogue, has to do in a call: amounts by the name of their term."""

    kernel: str
    amounts: Mapping[str, float]


def works(node: Node, choice: Choice) -> Iterator[Work]:
    """The work of a node's kernel, then that of each op of its epilogue."""
    op, types = node.op, node.kinds
    if isinstance(op, Fusable):
        op, types = replace(op, then=()), types[: op.arity]
    outs = op.infer(*types)
    params = dict(choice.params)
    amounts = {"call": 1, **choice.kernel.work(params, op, *types)}
    yield Work(_name(op, choice.kernel.dtypes[: len(types)], choice.text), amounts)
    in_vectors = "N" in params and KernelContext(KernelCall.of(node, choice), "").in_lanes
    vectors = f" by {choice.kernel.isa or 'scalar'}" if in_vectors else ""
    for step, more in node.op.epilogue() if isinstance(node.op, Fusable) else ():
        several = f" of {len(step.args)}" if len(step.args) > 2 else ""           # an update with momentum has one more
        yield Work(f"+ {_name(step, (outs[0].dtype,))}{several}{vectors}", {"out": outs[0].numel})
        outs = step.infer(outs[0], *(node.kinds[i] for i in more))


def _name(op: Op, dtypes: tuple[DType, ...], kernel: str = "") -> str:
    """Op, element types, whatever is chosen by name or by yes and no, and the kernel: one kernel text."""
    chosen = [str(value) for value in op.attributes().values() if isinstance(value, str)]
    chosen += [key for key, value in op.attributes().items() if value is True]
    tags = dict.fromkeys(dtype.tag for dtype in dtypes)
    return " ".join([op.name, *tags, *chosen, *([f"by {kernel}"] if kernel else [])])


def code(plan: ProgramPlan, kernels: Kernels) -> dict[str, int]:
    """What the machine code of a firmware comes from: the runtime, and distinct kernel functions of each sort."""
    calls = {
        KernelCall.of(n, kernels.select(n).choice)
        for entry in plan.entries.values() for n in entry.graph.nodes if not n.op.view
    }
    counts = dict.fromkeys(SORTS, 0) | {"base": 1}
    for call in calls:
        counts[_sort(call)] += 1
    return counts


def _sort(call: KernelCall) -> str:
    """An update in an epilogue is much code, for each of the elements that a kernel stores at once; most for integers, which it rounds."""
    updates = isinstance(call.op, Fusable) and any(len(step.args) > 2 and step.results[0] == "w_new" for step in call.op.then)
    number = "float" if all(t.dtype.is_float for t in (*call.ins, *call.outs)) else "integer"
    return f"{number} update" if updates else number


def data_bytes(program: Program) -> int:
    """Bytes of flash for constants and for what parameters and states start from; zeros need none."""
    read = {*program.firsts.values()}
    starts = (v for v in program.stored(Role.PARAM, Role.STATE) if v in read or (v.data is not None and v.data.any()))
    return sum(v.type.nbytes for v in (*program.constants, *starts))


@dataclass(frozen=True)
class Taken:
    """Of one call, or the sum of many."""

    instructions: float
    cycles: float


class Table:
    """The factors of one core, named `core`. A kernel that was never counted is taken for what it is with fp32 in place of fp16, which is
    less than it takes on a core that only stores halves; or for the mean of others of its op, or of all.
    """

    def __init__(self, core: str, factors: Mapping[str, Any]) -> None:
        self.core = core
        self._kernels: dict[str, dict[str, list[float]]] = factors["kernels"]
        self._code: dict[str, int] = factors["code"]

    def taken(self, node: Node, selection: Selection) -> Taken:
        """By one call: as it was counted, or an estimate."""
        count = selection.count
        if count is not None and count.cycles is not None:
            return Taken(count.instructions, count.cycles)
        each = [self.of(work) for work in works(node, selection.choice)]
        return Taken(sum(one.instructions for one in each), sum(one.cycles for one in each))

    def of(self, work: Work) -> Taken:
        factors = self._factors(work.kernel)
        instructions, cycles = (sum(amount * factors[term][i] for term, amount in work.amounts.items() if term in factors) for i in (0, 1))
        return Taken(instructions, cycles)

    def uncounted(self, node: Node, selection: Selection) -> list[str]:
        """Kernels of a node that neither the table nor the tuner has counted."""
        return [] if selection.count else [w.kernel for w in works(node, selection.choice) if w.kernel not in self._kernels]

    def code_bytes(self, counts: Mapping[str, int]) -> int:
        """Estimate of the machine code of a firmware, runtime and link included."""
        return sum(self._code[sort] * count for sort, count in counts.items())

    def _factors(self, kernel: str) -> Mapping[str, Sequence[float]]:
        if kernel not in self._kernels and (wide := next((name for name in _in_fp32(kernel) if name in self._kernels), None)):
            return self._kernels[wide]
        if kernel not in self._kernels:
            epilogue = kernel.startswith("+")
            others = [name for name in self._kernels if name.startswith("+") == epilogue]
            op = kernel.split()[epilogue]
            kin = [name for name in others if name.split()[epilogue] == op] or others
            terms = {term for name in kin for term in self._kernels[name]}
            return {term: [sum(self._kernels[name].get(term, (0, 0))[i] for name in kin) / len(kin) for i in (0, 1)] for term in terms}
        return self._kernels[kernel]


def _in_fp32(kernel: str) -> Iterator[str]:
    """`conv2d_grad_w f16 f32 by correlate_widened vfp packed` → `conv2d_grad_w f32 by correlate vfp packed`: the same loops; then without
    packing."""
    op, by, loops = kernel.partition(" by ")
    words = dict.fromkeys("f32" if word == "f16" else word for word in op.split())
    same = f"{' '.join(words)}{by}{loops.replace('_widened', '')}"
    yield from (same, same.removesuffix(" packed"))


@cache
def load_table(core: str) -> Table | None:
    """The table of a core as boards name it, or of the one that it is like; None where nothing was counted on it (as on the host)."""
    cores = json.loads(TABLE.read_text(encoding="utf-8"))["cores"]
    while core not in cores:
        known = load_core(core)
        if known is None or not known.like:
            return None
        core = known.like
    return Table(core, cores[core])
