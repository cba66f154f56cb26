# SPDX-License-Identifier: Apache-2.0
"""Listings of instructions, timing tables of cores, and what they make of short pieces of code whose cycles the manuals tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinytrain.errors import BoardError
from tinytrain.paths import data_dir
from tinytrain.target.board import board_names, load_board
from tinytrain.target.listing import Instruction, parsed
from tinytrain.target.timing import Ran, load_core

CORES = sorted(path.stem for path in (data_dir("boards") / "core").glob("*.toml"))
START = 0x100


def code(*lines: str) -> list[Instruction]:
    """Instructions of four bytes each behind each other, as a disassembler shows them."""
    text = "".join(f" {START + 4 * i:x}:\tf000 0000\t{line.replace(' ', chr(9), 1)}\n" for i, line in enumerate(lines))
    return parsed(f"{START:08x} <f>:\n{text}")


def cycles(core: str, *lines: str, times: int = 1, left: int = 0) -> float:
    """Estimated cycles of lines that ran so often; the last one went elsewhere `left` times."""
    found = load_core(core)
    assert found is not None
    run = code(*lines)
    return sum(found.cycles([Ran(i, times, left if i is run[-1] else 0) for i in run]))


@pytest.mark.parametrize("name", CORES)
def test_each_table_is_valid_and_says_where_it_is_from(name: str) -> None:
    core = load_core(name)
    assert core is not None and core.title and core.source and core.issue >= 1
    assert {row.kind for row in core.rows} > {"branch", "load", "store", "integer"}


def test_each_emulated_board_has_a_table() -> None:
    boards = [load_board(name) for name in board_names()]
    assert all(load_core(board.core) for board in boards if board.machine)
    assert load_core("host") is None


@pytest.mark.parametrize(
    ("core", "lines", "expected"),
    [
        ("cortex-m4", ["vmul.f32 s0, s1, s2", "vadd.f32 s3, s4, s5"], 2),
        ("cortex-m4", ["vmul.f32 s0, s1, s2", "vadd.f32 s3, s0, s5"], 3),       # the result is read at once
        ("cortex-m4", ["vfma.f32 s0, s1, s2", "vfma.f32 s3, s1, s2"], 6),
        ("cortex-m4", ["vdiv.f32 s0, s1, s2", "add r0, r1, r2"], 15),
        ("cortex-m4", ["ldr r0, [r1]", "add r2, r3, r4"], 3),
        ("cortex-m4", ["ldr r0, [r1]", "ldr r2, [r3]", "ldr r4, [r5]"], 4),     # pipelined: 1 + 3
        ("cortex-m4", ["ldr r0, [r1]", "ldr r2, [r0]"], 4),                     # not with an address that is loaded
        ("cortex-m4", ["vldmia r0!, {s0-s3}"], 5),
        ("cortex-m4", ["push {r4, r5, lr}"], 4),
        ("cortex-m4", ["smlad r0, r1, r2, r0", "smlad r3, r1, r2, r3"], 2),
        ("cortex-m4", ["mla r0, r1, r2, r3"], 1),
        ("cortex-m3", ["mul r0, r1, r2", "mla r0, r1, r2, r0", "str r0, [r1]"], 4),
        ("cortex-m0plus", ["ldr r0, [r1]", "adds r0, r0, r1", "str r0, [r1]"], 5),
        ("cortex-m33", ["vfma.f32 s0, s1, s2"], 3),
        ("cortex-m7", ["add r0, r1, r2", "add r3, r4, r5"], 1),                 # two at once
        ("cortex-m7", ["add r0, r1, r2", "add r3, r0, r5"], 2),
        ("cortex-m7", ["vfma.f32 s0, s1, s2", "vldr s4, [r0]", "vfma.f32 s3, s1, s2", "vldr s5, [r0]"], 2),
        ("cortex-m55", ["vldrw.u32 q0, [r0]", "vfma.f32 q1, q2, r3", "vldrw.u32 q4, [r1]", "vfma.f32 q5, q2, r3"], 4),
        ("cortex-m55", ["vldrw.u32 q0, [r0]", "vldrw.u32 q1, [r1]"], 3),        # one pipe, two cycles each
        ("rv32imafc", ["fmadd.s fa0,fa1,fa2,fa3", "fmadd.s fa4,fa1,fa2,fa5"], 2),
        ("rv32imafc", ["flw fa0,0(a0)", "fmadd.s fa1,fa0,fa2,fa1"], 3),
        ("rv32imafc_zve32f", ["vsetvli t0,a0,e32,m4,ta,ma", "vfmacc.vf v0,fa0,v8", "vfmacc.vf v4,fa0,v8"], 6),
    ],
)
def test_cycles_of_a_few_lines(core: str, lines: list[str], expected: int) -> None:
    assert cycles(core, *lines) == expected


def test_a_branch_costs_more_when_it_is_taken() -> None:
    assert cycles("cortex-m4", "cmp r0, r1", "bne 200 <g>", times=10) == 20
    assert cycles("cortex-m4", "cmp r0, r1", "bne 200 <g>", times=10, left=10) == 30
    assert cycles("cortex-m4", "bx lr", times=1, left=1) == 3


def test_a_sum_carried_round_a_loop_is_waited_for() -> None:
    lines = ("fmadd.s fa0,fa1,fa2,fa0", f"bnez a0,{START:x} <f>")
    assert cycles("rv32imafc", *lines, times=100, left=99) == pytest.approx(5 * 99 + 2)
    assert cycles("cortex-m7", "vfma.f32 s0, s1, s2", f"bne {START:x} <f>", times=101, left=100) == pytest.approx(3 * 100 + 1)


def test_names_lose_width_and_condition() -> None:
    lines = ("ite ne", "movne.w r0, #1", "moveq.w r0, #0", "addeq r1, r2", "vpst", "vldrbt.s8 q0, [r0]", "vmla.s32 q0, q1, r2")
    assert [i.name for i in code(*lines)] == ["it", "mov", "mov", "addeq", "vpst", "vldrb.s8", "vmla.s32"]


@pytest.mark.parametrize(
    ("line", "read", "summed", "written"),
    [
        ("vldmia r1!, {s0-s2}", "r1", "", "s0 s1 s2"),
        ("pop {r4, pc}", "", "", "r4 r15"),
        ("str r0, [r1, r2, lsl #2]", "r0 r1 r2", "", ""),
        ("ldrd r0, r1, [sp, #8]", "r13", "", "r0 r1"),
        ("vfma.f32 q0, q1, r2", "s4 s5 s6 s7 r2", "s0 s1 s2 s3", "s0 s1 s2 s3"),
        ("vmladava.s8 r0, q0, q1", "s0 s1 s2 s3 s4 s5 s6 s7", "r0", "r0"),
        ("smlal r0, r1, r2, r3", "r2 r3", "r0 r1", "r0 r1"),
        ("vmul.f32 s0, s1, s2", "s1 s2", "", "s0"),
        ("fsw fa0,4(a1)", "fa0 a1", "", ""),
        ("vfmacc.vf v8,fa0,v9", "fa0 v9", "v8", "v8"),
    ],
)
def test_registers_of_an_instruction(line: str, read: str, summed: str, written: str) -> None:
    (instruction,) = code(line)
    assert tuple(map(set, instruction.registers)) == (set(read.split()), set(summed.split()), set(written.split()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('issue = 1\nlike = "nothing"\n', "but there is no"),
        ("issue = 1\n", "no last"),
        ('issue = 1\n[[timing]]\nkind = "any"\nnames = ".*"\ncost = 3\n', "is not valid; it has kind, names"),
        ('issue = 1\n[[timing]]\nkind = "any"\nnames = "("\n', "is not valid"),
    ],
)
def test_a_wrong_table_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(BoardError, match=message):
        load_core("odd", tmp_path)
