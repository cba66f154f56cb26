# SPDX-License-Identifier: Apache-2.0
"""Kernels that make halves floats first give the bits of the plain one, however much of a map they widen at once: on the host under
sanitizers, and on a board of each unit. What there is memory for decides among them, so that tests of kernels see the extremes alone."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel_cases import Case, halved, node_of, stored_as_halves
from kernel_runs import board_results, host_results
from test_kernels import skip_without_tools

from tinytrain.emit.kernels import KernelContext
from tinytrain.ops.conv import Conv2d, Conv2dGradW, Conv2dGradX
from tinytrain.target.board import load_board

EACH = 3                                                  # examples that a kernel runs, at most: the last ones are the largest
BOARDS = {"vfp": "mps2-an500", "rvf": "riscv-virt", "rvv": "riscv-virt-rvv", "wide": None}


@dataclass(frozen=True)
class Way(Case):
    """A case that is told from those of other kernels by a number."""

    way: int = 0

    def __str__(self) -> str:
        return f"{super().__str__()}/{self.way}"


def ways(isa: str) -> list[Way]:
    made: list[Way] = []
    taken: Counter[object] = Counter()
    for op_class in (Conv2d, Conv2dGradX, Conv2dGradW):
        for number, example in reversed(list(enumerate(op_class.examples))):
            for node in stored_as_halves(node_of(example), number):
                outputs = tuple(v.type for v in node.outputs)
                for way, kernel in enumerate(op_class.kernels):
                    case = Way(example.op, number, halved(example, node), kernel, outputs=outputs, way=way)
                    inputs = case.example.inputs[: case.call.arity]
                    own = kernel.isa == isa and all(kernel.reads(case.op, i, t.dtype) for i, t in enumerate(inputs))
                    if own and kernel.accepts(case.op, *(t.computed for t in inputs)) and KernelContext(case.call, "").widened:
                        taken[op_class, way] += 1
                        made += [case] if taken[op_class, way] <= EACH else []
    return made


@pytest.mark.parametrize("isa", BOARDS)
def test_all_ways_give_the_bits_of_the_plain_kernel(isa: str, tmp_path: Path) -> None:
    cases = ways(isa)
    board = load_board(BOARDS[isa] or "host")
    plain = list(dict.fromkeys(dataclasses.replace(case.plain, way=0) for case in cases))
    want = host_results(plain, tmp_path, board.fused, sanitized=False)
    wanted = {str(case): want[str(dataclasses.replace(case.plain, way=0))] for case in cases}
    got = host_results(cases, tmp_path, board.fused)
    assert len({case.kernel for case in cases}) > 30
    wrong = [f"{case} {case.call.params} {case.kernel}: {got[str(case)][:200]}" for case in cases if got[str(case)] != wanted[str(case)]]
    assert not wrong, f"{len(wrong)} of {len(cases)}: " + "\n".join(wrong[:5])
    if not BOARDS[isa]:
        return
    skip_without_tools(board)
    shown = board_results(cases, board, tmp_path)
    wrong = [str(case) for case in cases if shown.get(str(case)) != f"{zlib.crc32(bytes.fromhex(wanted[str(case)])):08x}"]
    assert not wrong, f"{len(wrong)} of {len(cases)}: " + "\n".join(wrong[:5])
