# SPDX-License-Identifier: Apache-2.0
"""How many instructions a kernel takes on a core: a table, fitted to counts that were measured under emulation.

instructions = call + mac·macs + patch·(macs / channels) + out·outputs + in·inputs,  + out·outputs of each op of the epilogue

Each kernel has its own factors. `patch` is what is done once for each operand that all output channels share: the loads and the
addresses of a window. `instructions.json` holds the factors; `python benchmarks/instructions.py` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tinytrain.emit.kernels import KernelCall
from tinytrain.emit.select import Kernels
from tinytrain.ir.graph import Node, Program
from tinytrain.ir.op import Fusable, Op
from tinytrain.ir.types import DType, Role, TensorType
from tinytrain.planner import ProgramPlan

TABLE = Path(__file__).with_name("instructions.json")
TERMS = ("call", "mac", "patch", "out", "in")
SORTS = ("base", "float", "float update", "integer", "integer update")


@dataclass(frozen=True)
class Work:
    """What one kernel, or one op of its epilogue, has to do in a call: amounts by the name of their term."""

    kernel: str
    amounts: Mapping[str, float]


def works(node: Node, kernels: Kernels) -> Iterator[Work]:
    """The work of a node's kernel, then that of each op of its epilogue."""
    op, kernel = node.op, kernels.select(node).kernel
    arity = op.arity if isinstance(op, Fusable) else len(node.inputs)
    types = node.kinds[:arity]
    outs = op.base_infer(*types) if isinstance(op, Fusable) else op.infer(*types)
    macs = op.cost(*node.kinds).macs
    yield Work(_name(op, kernel.dtypes[: len(types)], kernel.isa), {
        "call": 1, "mac": macs, "patch": macs / (outs[0].shape or (1,))[-1], "out": _elements(outs), "in": _elements(types),
    })
    for step, more in op.epilogue() if isinstance(op, Fusable) else ():
        yield Work(f"+ {_name(step, (outs[0].dtype,), None)}", {"out": outs[0].numel})
        outs = step.infer(outs[0], *(node.kinds[i] for i in more))


def _elements(types: tuple[TensorType, ...]) -> int:
    return sum(t.numel for t in types)


def _name(op: Op, dtypes: tuple[DType, ...], isa: str | None) -> str:
    """Op, element types, instruction set, and whatever is chosen by name or by yes and no: one kernel text."""
    chosen = [str(value) for value in op.attributes().values() if isinstance(value, str)]
    chosen += [key for key, value in op.attributes().items() if value is True]
    tags = dict.fromkeys(dtype.tag for dtype in dtypes)
    return " ".join([op.name, *tags, *([isa] if isa else []), *chosen])


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
    stored = [*program.stored(Role.CONST), *(v for v in program.stored(Role.PARAM, Role.STATE) if v.data is not None and v.data.any())]
    return sum(v.type.nbytes for v in stored)


class Table:
    """The factors of one core. A kernel that was never counted is taken for the mean of others of its op, or of all."""

    def __init__(self, core: Mapping[str, Any]) -> None:
        self._kernels: dict[str, dict[str, float]] = core["kernels"]
        self._code: dict[str, int] = core["code"]

    def instructions(self, node: Node, kernels: Kernels) -> float:
        """Of one call: as it was counted, or an estimate."""
        count = kernels.select(node).count
        return sum(map(self.of, works(node, kernels))) if count is None else count.instructions

    def of(self, work: Work) -> float:
        factors = self._factors(work.kernel)
        return sum(amount * factors.get(term, 0.0) for term, amount in work.amounts.items())

    def uncounted(self, node: Node, kernels: Kernels) -> list[str]:
        """Kernels of a node that the table does not have."""
        return [work.kernel for work in works(node, kernels) if work.kernel not in self._kernels]

    def code_bytes(self, counts: Mapping[str, int]) -> int:
        """Estimate of the machine code of a firmware, runtime and link included."""
        return sum(self._code[sort] * count for sort, count in counts.items())

    def _factors(self, kernel: str) -> dict[str, float]:
        if kernel not in self._kernels:
            epilogue = kernel.startswith("+")
            others = [name for name in self._kernels if name.startswith("+") == epilogue]
            op = kernel.split()[epilogue]
            kin = [name for name in others if name.split()[epilogue] == op] or others
            return {term: sum(self._kernels[name].get(term, 0.0) for name in kin) / len(kin) for term in TERMS}
        return self._kernels[kernel]


@cache
def load_table(core: str) -> Table | None:
    """The table of a core as boards name it; None where nothing was counted on it (as on the host)."""
    cores = json.loads(TABLE.read_text(encoding="utf-8"))["cores"]
    return Table(cores[core]) if core in cores else None
