# SPDX-License-Identifier: Apache-2.0
"""Kernel cases from the registry, and their C: every example of every op, each kernel that suits it, fine and coarse inputs, and
every way in which outputs may share the storage of inputs or lie over them. `kernel_cases.c` is the fixed part that runs them."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from tinytrain.emit.kernels import KernelCall, render
from tinytrain.emit.select import select
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Node
from tinytrain.ir.op import Elementwise, Example, Kernel, Op, registry
from tinytrain.ir.types import F16, F32, Array, DType, TensorType, Value
from tinytrain.ir.words import literal
from tinytrain.paths import data_dir
from tinytrain.random import random_u32
from tinytrain.target.isa import headers
from tinytrain.verify.reference import cast

HERE = Path(__file__).resolve().parent
K = TypeVar("K", bound=Hashable)
Pairs = tuple[tuple[int, int], ...]                       # (input, output) that share storage


@dataclass(frozen=True)
class Case:
    """One run of one kernel. `example` is the index in the op's list."""

    op: Op
    number: int
    example: Example
    kernel: Kernel
    coarse: bool = False
    shared: Pairs = ()
    outputs: tuple[TensorType, ...] = ()
    cores: int = 1

    def __str__(self) -> str:
        """`conv2d/f32/dsp/2/coarse`; `sgd/f32/0/in1=out0`; `dense/f16/hh/3`: which inputs are stored as fp16."""
        kinds = self.example.inputs or self.outputs
        parts = [self.op.name, kinds[0].dtype.tag, *([self.kernel.isa] if self.kernel.isa else [])]
        if any(t.dtype is F16 for t in (*kinds, *self.outputs)):
            parts.append("".join("h" if t.dtype is F16 else "f" for t in self.example.inputs))
        parts += [*(["spare"] if self.kernel.spare else []), str(self.number)]
        parts += ["coarse"] if self.coarse else []
        parts += [f"{self.cores}cores"] if self.cores > 1 else []
        return "/".join([*parts, *(f"in{i}=out{o}" for i, o in self.shared)])

    @property
    def seed(self) -> int:
        return zlib.crc32(f"{self.op.name}/{self.number}".encode())

    @property
    def call(self) -> KernelCall:
        return KernelCall(self.op, self.example.inputs, self.outputs, self.kernel, cores=self.cores).sharing(self.shared)

    @property
    def lead(self) -> int:
        """Bytes from the start of output 0 to that of input 0 where it lies over that, aligned as the planner does it."""
        lead = self.kernel.lead(self.op, self.example.inputs, self.outputs) if (0, 0) in self.shared else None
        return -(-(lead or 0) // 8) * 8

    @property
    def plain(self) -> Case:
        """The same by the portable kernel without scratch, and with nothing in place: it gives the same bits."""
        return dataclasses.replace(self, kernel=portable(self.example, self.outputs, spare=False), shared=())

    def arrays(self) -> list[Array]:
        """The inputs, bit for bit as `make_input` in C makes them."""
        made: list[Array] = []
        for i, kind in enumerate(self.example.inputs):
            bits = random_u32(self.seed + i, np.arange(kind.numel)).astype(np.int64)
            if kind.dtype.is_float:
                scale, shift = map(np.float32, self.example.reals)
                steps = ((bits >> 29) - 4) * 0.25 if self.coarse else ((bits >> 8) - 0x800000) * 2.0**-23
                with np.errstate(over="ignore"):
                    values = steps.astype(np.float32) * scale + shift
            else:
                low, high = self.example.bounds(i)
                values = low + bits % (high - low)
            with np.errstate(over="ignore"):
                made.append(values.astype(kind.dtype.np).reshape(kind.shape))
        return made

    def want(self) -> tuple[Array, ...]:
        made = self.op.reference(*(a.astype(np.float32) if a.dtype == np.float16 else a for a in self.arrays()))
        return tuple(cast(Value("y", kind), array) for kind, array in zip(self.outputs, made, strict=True))

    def scale(self, want: Sequence[Array]) -> float:
        """Size of the summed products, for fp32 sums of integers."""
        integers = any(t.quant and not t.dtype.is_float for t in self.example.inputs)
        return max(1.0, *(float(np.abs(a).max(initial=0)) for a in want)) if integers else 1.0

    def decode(self, data: bytes) -> list[Array]:
        """Outputs from the bytes that the program printed."""
        made, at = [], 0
        for kind in self.outputs:
            made.append(np.frombuffer(data[at : at + kind.nbytes], kind.dtype.np).reshape(kind.shape))
            at += kind.nbytes
        return made


def sharings(op: Op, inputs: Sequence[TensorType], outputs: Sequence[TensorType], kernel: Kernel) -> list[Pairs]:
    """Each pair that the op allows and whose tensors are of one size, then as many as possible at once, then what the kernel allows."""
    pairs = [(i, o) for i, o in op.inplace if inputs[i].nbytes == outputs[o].nbytes]
    together: dict[int, int] = {}
    for i, o in pairs:
        if i not in together and o not in together.values():
            together[i] = o
    over: list[Pairs] = [((0, 0),)] if kernel.lead(op, inputs, outputs) is not None else []
    return [*((pair,) for pair in pairs), *([tuple(together.items())] if len(together) > 1 else []), *over]


@cache
def node_of(example: Example) -> Node:
    g = Builder("case")
    g.emit_all(example.op, *(g.input("x", t.shape, t.computed.dtype, t.quant) for t in example.inputs))
    node = g.nodes[0]
    inputs = tuple(dataclasses.replace(v, type=t) for v, t in zip(node.inputs, example.inputs, strict=True))
    return dataclasses.replace(node, inputs=inputs)


@cache
def portable(example: Example, outputs: tuple[TensorType, ...], *, spare: bool) -> Kernel:
    node = node_of(example)
    stored = tuple(dataclasses.replace(v, type=kind) for v, kind in zip(node.outputs, outputs, strict=True))
    return select(dataclasses.replace(node, outputs=stored), (), spare=spare).kernel


@cache
def all_cases(isa: frozenset[str] = frozenset()) -> tuple[Case, ...]:
    """Every case for a processor with these extensions: what is portable, and what its own kernels are chosen for."""
    cases: list[Case] = []
    seen: Counter[object] = Counter()
    for op_class in registry().values():
        for number, example in enumerate(op_class.examples if not op_class.view else ()):
            node, op, known = node_of(example), example.op, set[Kernel]()
            for each, stored in [(example, node), *((halved(example, n), n) for n in stored_as_halves(node, number))]:
                outputs = tuple(v.type for v in stored.outputs)
                own = [select(stored, isa, spare=spare).kernel for spare in (False, True)] if isa else []
                for kernel in dict.fromkeys([*(portable(each, outputs, spare=spare) for spare in (False, True)), *own]):
                    alike = (op.name, kernel, tuple(t.dtype for t in (*each.inputs, *outputs)))
                    seen[alike] += 1
                    # one loop computes all elementwise ops, whatever lies where: three examples of each are enough
                    over = sharings(op, each.inputs, outputs, kernel) if seen[alike] <= 3 or not isinstance(op, Elementwise) else []
                    # what lies over what is the same for halves, but in kernels that take no floats
                    places = [(False, pairs) for pairs in over if stored is node or kernel not in known]
                    variants = [(False, ()), *([(True, ())] if stored is node else []), *places]
                    known |= {kernel} if stored is node else set()
                    cases += [Case(op, number, each, kernel, coarse, shared, outputs) for coarse, shared in variants]
    return tuple(cases)


def stored_as_halves(node: Node, number: int) -> list[Node]:
    """The node with all in fp16 that may be, and where operands may differ with only the first one so, or every other. Of kernels for
    halves alone each example, of others some: they only read and write what is otherwise the same."""
    halves, kernels = node.half_operands, node.op.kernels
    alone = any(F16 in kernel.dtypes for kernel in kernels)
    apart = not alone and len({kernel.half for kernel in kernels if kernel.isa is None and kernel.dtypes == (F32,)}) > 1
    if halves is None or (number % 4 and not alone and not apart):
        return []
    sets = [halves, *([frozenset({0})] if 0 in halves and number % 4 == 0 else [])]
    sets += [frozenset(i for i in halves if i % 2 == odd) for odd in (0, 1)] if apart else []
    made = []
    for positions in dict.fromkeys(sets):
        inputs = tuple(dataclasses.replace(v, type=half(v.type)) if i in positions else v for i, v in enumerate(node.inputs))
        outputs = tuple(v if v in node.wide else dataclasses.replace(v, type=half(v.type)) for v in node.outputs)
        if any(v.type.dtype is F16 for v in (*inputs, *outputs)):
            made.append(dataclasses.replace(node, inputs=inputs, outputs=outputs))
    return made


def half(kind: TensorType) -> TensorType:
    return dataclasses.replace(kind, dtype=F16) if kind.dtype is F32 and kind.numel > 1 else kind


def halved(example: Example, stored: Node) -> Example:
    return dataclasses.replace(example, inputs=tuple(v.type for v in stored.inputs))


def grouped(cases: Iterable[Case], key: Callable[[Case], K]) -> dict[K, list[Case]]:
    """Cases that have a key in common, in their order."""
    found: dict[K, list[Case]] = {}
    for case in cases:
        found.setdefault(key(case), []).append(case)
    return found


def families(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Cases by the template of their kernel."""
    return grouped(cases, lambda case: case.kernel.template)


_TAGS = {DType.F32: "TT_F32", DType.F16: "TT_F16", DType.S8: "TT_S8", DType.S16: "TT_S16", DType.S32: "TT_S32", DType.U8: "TT_U8"}


def cases_header(cases: Sequence[Case], fused: bool = False) -> str:
    """The text of cases.h: kernels, a wrapper with one signature for each, and the table of cases."""
    wrappers: dict[KernelCall, str] = {}
    text = [f"#define TT_FUSED {int(fused)}"]
    text += [f'#include "{header}"' for header in headers({case.kernel.isa for case in cases if case.kernel.isa})]
    text += ['#include "tt_port.h"'] if any(case.cores > 1 for case in cases) else []
    parts = ("curve", "half", "integer", "master", "math", "power", "random", "requantise", "simd_scalar", "trig", "types", "update")
    text += [f'#include "tt_{part}.h"' for part in parts]
    tensors: list[str] = []
    entries: list[str] = []
    largest = 0
    for case in cases:
        call = case.call
        if call not in wrappers:
            wrappers[call] = f"call_{len(wrappers)}"
            symbol = f"{call.stem}_{len(wrappers)}"
            kinds = [*(f"const {t.dtype.c}" for t in call.ins), *(t.dtype.c for t in call.outs)]
            kinds += ["unsigned char"] if call.kernel.scratch else []
            passed = [*call.passed, *range(len(call.ins), len(kinds))]
            arguments = ", ".join(f"({kinds[i]} *)(void *)b[{i}]" for i in passed)
            text += [render(call, symbol), f"static void {wrappers[call]}(unsigned char *const *b)\n{{\n    {symbol}({arguments});\n}}\n"]
        bounds = [*(case.example.bounds(i) for i in range(len(call.ins))), *((0, 1) for _ in call.outs)]
        scratch = call.scratch_bytes
        shares = {o: i for i, o in case.shared}
        kinds_of_case = [*((t, -1) for t in call.ins), *((t, shares.get(o, -1)) for o, t in enumerate(call.outs))]
        row = [wrappers[call], f"UINT32_C({case.seed})", len(tensors), len(call.ins), len(call.outs), scratch, case.lead, int(case.coarse),
               *map(literal, case.example.reals)]
        entries.append(f"    {{ {', '.join(map(str, row))} }}, /* {case} */")
        tensors += [
            f"    {{ {_TAGS[t.dtype]}, {t.numel}, {low}, {high}, {share} }},"
            for (t, share), (low, high) in zip(kinds_of_case, bounds, strict=True)
        ]
        largest = max(largest, sum(t.nbytes + 64 for t, _ in kinds_of_case) + scratch + case.lead + 128)
    buffers = max(len(c.example.inputs) + len(c.outputs) + 1 for c in cases)
    text += [
        "typedef struct { tt_tag tag; uint32_t count; int32_t low, high, shares; } case_tensor;",
        "typedef struct { void (*call)(unsigned char *const *); uint32_t seed, first, inputs, outputs, scratch, lead;",
        "    int coarse; float scale, shift; } case_entry;",
        f"#define CASES_COUNT {len(cases)}u",
        f"#define CASES_MAX_BUFFERS {buffers}",
        f"#define CASES_ARENA_BYTES {(largest + 15) // 16 * 16}u",
        "static const case_tensor case_tensors[] = {", *tensors, "};", "static const case_entry cases[] = {", *entries, "};", "",
    ]
    return "\n".join(text)


def write_program(header: str, folder: Path) -> list[str]:
    """Put cases.h into a folder; returns the compiler's arguments for one program out of it (without -o and a target's own files)."""
    (folder / "cases.h").write_text(header)
    return [f"-I{folder}", f"-I{data_dir('runtime_c')}", str(HERE / "kernel_cases.c")]


WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Werror", "-ffp-contract=off")
