# SPDX-License-Identifier: Apache-2.0
"""Tuning: what counts decide, what the tuner keeps and what it never keeps, and tables that do not fit."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import save_model, sentence, succeed

from tinytrain.compiler import Options, understand
from tinytrain.emit import kernels as emit_kernels
from tinytrain.emit import tuned
from tinytrain.emit.select import Choice, Count, Kernels, call_text
from tinytrain.emit.tuned import Entry, Table, Tuning, headers_of, made_of, processor, shipped, summed
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.op import f32
from tinytrain.ir.types import TensorType
from tinytrain.jobs import Jobs
from tinytrain.ops.conv import Conv2d, Pad
from tinytrain.ops.dense import Dense
from tinytrain.paths import data_dir
from tinytrain.report.live import Quiet
from tinytrain.target.board import load_board
from tinytrain.target.build import compiler_version
from tinytrain.tune import trial as trial_module
from tinytrain.tune.bench import Tried, tried
from tinytrain.tune.trial import Trial, trial, trials
from tinytrain.tune.tune import tune_program

BOARD = load_board("mps2-an386")
TOOLS = pytest.mark.skipif(
    not all(map(shutil.which, ("arm-none-eabi-gcc", "arm-none-eabi-objdump", "qemu-system-arm", "make"))),
    reason="needs the Arm compiler and emulator",
)
CONV = (Conv2d(pad=Pad(1, 1, 1, 1)), f32((8, 8, 8), (8, 3, 3, 8)))


def node_of(op: Any, inputs: Sequence[TensorType]) -> Node:
    g = Builder("one")
    g.emit_all(op, *(g.input("x", t.shape, t.dtype, t.quant) for t in inputs))
    return g.nodes[0]


def program_of(node: Node) -> Program:
    return Program("one", {"infer": Graph("infer", node.inputs, node.outputs, (node,))})


def counted(node: Node, count: Callable[[int, Choice], Count | None]) -> dict[str, Count | None]:
    return {str(choice): count(number, choice) for number, choice in enumerate(Kernels(BOARD.isa).choices(node))}


def tuning(node: Node, counts: dict[str, Count | None]) -> Tuning:
    entry = Entry(made_of(node, Kernels(BOARD.isa).select(node).choice), headers_of(BOARD.isa), counts)
    return Tuning(BOARD, (Table(processor(BOARD), "a compiler", calls={call_text(node): entry}),))


def test_a_call_is_counted_again_when_a_header_of_its_kernels_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(name: str) -> str:
        folder = tmp_path / name
        shutil.copytree(data_dir("runtime_c"), folder)
        (folder / name).write_text((folder / name).read_text() + "/* changed */\n")
        with monkeypatch.context() as patch:
            patch.setattr(tuned, "data_dir", lambda of: folder if of == "runtime_c" else data_dir(of))
            return headers_of(BOARD.isa)

    today = headers_of(BOARD.isa)
    for name, same in {"tt_tile.h": False, "tt_simd_vfp.h": False, "tt_dsp.h": False, "tt_simd_rvf.h": True, "tt_link.h": True}.items():
        assert (changed(name) == today) == same, name


def test_counts_stand_for_the_kernel_whatever_is_written_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    node = node_of(*CONV)
    choices = Kernels(BOARD.isa).choices(node)
    before = [made_of(node, choice) for choice in choices]
    assert len({*before}) > 10
    monkeypatch.setattr(tuned, "render", lambda *given: "/* more\n * words */  " + emit_kernels.render(*given).replace("\n", "\n\n"))
    assert [made_of(node, choice) for choice in choices] == before


def test_what_is_listed_is_taken_where_nothing_was_counted() -> None:
    node = node_of(*CONV)
    choices = Kernels(BOARD.isa).choices(node)
    assert choices[0] == Kernels(BOARD.isa).select(node).choice and choices[0].kernel.isa == "vfp"
    assert len(set(map(str, choices))) == len(choices) > 10
    assert {c.kernel.template for c in choices} == {"correlate", "conv2d"}


def test_the_quickest_is_taken_and_a_wrong_one_never() -> None:
    node = node_of(*CONV)
    last = len(counted(node, lambda number, _: None)) - 1
    kernels = Kernels(BOARD.isa, {call_text(node): counted(node, lambda number, _: Count(9, 10_000 - 100 * number, 100))})
    assert kernels.select(node).count == Count(9, 10_000 - 100 * last, 100)
    near = counted(node, lambda number, _: Count(9, 1000 - 40 * (number == last), 100))
    assert Kernels(BOARD.isa, {call_text(node): near}).select(node).count == Count(9, 1000, 100), "estimates are not that exact"
    wrong = counted(node, lambda number, _: None if number in (0, last) else Count(9, 1000 - number, 100))
    assert Kernels(BOARD.isa, {call_text(node): wrong}).select(node).count == Count(9, 1000 - last + 1, 100)
    assert Kernels(BOARD.isa, {call_text(node): dict.fromkeys(wrong)}).select(node).choice == Kernels(BOARD.isa).select(node).choice


def test_a_choice_keeps_what_the_twin_does_with_subnormal_numbers() -> None:
    """Vectors of Helium take them for zeros, the float unit beside them does not."""
    kernels = Kernels(load_board("mps3-an547").isa)
    assert {c.kernel.isa for c in kernels.choices(node_of(*CONV))} == {"mve"}
    assert "mve" not in {c.kernel.isa for c in kernels.choices(node_of(Dense(), f32((8,), (4, 8))))}


def test_scratch_is_used_only_where_it_costs_no_memory() -> None:
    node = node_of(*CONV)
    counts = {call_text(node): counted(node, lambda _, choice: Count(1, 1 if choice.kernel.spare else 2, 1))}
    taken = [Kernels(BOARD.isa, counts).select(node, spare=spare).kernel for spare in (True, False)]
    assert [kernel.spare for kernel in taken] == [True, False] and taken[1].scratch is None


def test_counts_of_other_kernels_than_those_of_today_are_of_no_use() -> None:
    node = node_of(*CONV)
    counts = counted(node, lambda number, _: Count(9, 1000 - number, 100))
    today = tuning(node, counts)
    assert today.kernels(program_of(node)).select(node).count
    (table,) = today.tables
    changed = Entry("0123456789abcdef", "", table.calls[call_text(node)].counts)
    old = Tuning(BOARD, (dataclasses.replace(table, calls={call_text(node): changed}),))
    assert old.kernels(program_of(node)).select(node).count is None


def test_speed_balanced_and_size() -> None:
    """8·3·3·8 weights are 2,304 bytes: balanced gives 230 and a tenth of the listed code for speed."""
    node = node_of(*CONV)
    numbers = {0: Count(9, 900, 500), 1: Count(9, 100, 900), 2: Count(9, 800, 480), 3: Count(9, 5000, 50)}
    made = tuning(node, counted(node, lambda number, _: numbers.get(number, Count(9, 9999, 9999))))
    weight = dataclasses.replace(node.inputs[1], role=type(node.inputs[1].role).CONST)
    program = program_of(dataclasses.replace(node, inputs=(node.inputs[0], weight)))
    (node,) = program.entries["infer"].nodes
    sums = {way: summed(program, made.kernels(program, way)) for way in ("speed", "balanced", "size")}
    assert {way: (s.cycles, s.code_bytes) for way, s in sums.items()} == {"speed": (100, 900), "balanced": (800, 480), "size": (5000, 50)}
    assert sums["speed"].counted == sums["speed"].calls == 1


@TOOLS
def test_a_wrong_kernel_is_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose sum is wrong and one that writes too far, between right ones; on the board."""
    node = node_of(Dense(), f32((5,), (3, 5)))
    choices = Kernels(BOARD.isa).choices(node)[:4]
    spoilt = {
        str(choices[1]): lambda text: re.sub(r"= c0;", "= c0 + 1.0f;", text, count=1),
        str(choices[2]): lambda text: text.rstrip().rstrip("}") + "    y[3] = 0.0f;\n}\n",
    }
    real = emit_kernels.render

    def render(call: emit_kernels.KernelCall, symbol: str) -> str:
        text = real(call, symbol)
        change = spoilt.get(str(Choice(call.kernel, call.params or ())))
        return change(text) if change else f"/* {call.params} */\n{text}"

    monkeypatch.setattr(trial_module, "render", render)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in node.inputs]
    found = tried(trial(node, arrays, choices, BOARD))
    assert set(found["wrong"]) == set(spoilt), found
    assert found["wrong"][str(choices[1])].startswith("output 0 differs at (0,)")
    assert found["wrong"][str(choices[2])] == "bytes around its buffers were overwritten"
    for instructions, cycles, code_bytes in found["counts"].values():
        assert 50 < instructions < 1000 and cycles and cycles > instructions and 20 < code_bytes < 2000


class Counting(Jobs):
    """Counts without a board; the first choice of each call is the slowest. Stops, as Ctrl-C does, before it has done so many."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        object.__setattr__(self, "left", most)
        object.__setattr__(self, "done", [])

    def run(self, function: Any, items: Sequence[Any], key: Any) -> Iterator[tuple[Any, Any]]:
        for item in items:
            if len(self.done) == self.left:               # type: ignore[attr-defined]
                raise KeyboardInterrupt
            self.done.append(key(item))                   # type: ignore[attr-defined]
            counts = {choice: (100 - n, 200 - n, 300) for n, choice in enumerate(item.choices)}
            yield item, Tried(counts=counts, wrong={})


def tune(model: Path, path: Path, jobs: Jobs, **more: Any) -> str:
    return tune_program(understand(model, Options(board=BOARD.name)).program, BOARD, jobs, Quiet(), path=path, **more)


@TOOLS
def test_an_interrupted_tune_goes_on(tmp_path: Path) -> None:
    model, path = save_model(tmp_path), tmp_path / "kept" / "table.json"
    with pytest.raises(KeyboardInterrupt):
        tune(model, path, Counting(2))
    assert len(Table.read(path).calls) == 2
    rest = Counting()
    text = tune(model, path, rest)
    calls = Table.read(path).calls
    assert len(calls) == len(rest.done) + 2 > 8           # type: ignore[attr-defined]
    assert "fc1" in text and f"{len(calls)} calls in {path}" in text
    nothing = Counting(0)
    assert tune(model, path, nothing) == text
    again = Counting()
    tune(model, path, again, again=True)
    assert len(again.done) == len(calls)                  # type: ignore[attr-defined]


@TOOLS
def test_compile_takes_the_best_and_says_what_each_way_takes(tmp_path: Path) -> None:
    model, path = save_model(tmp_path), tmp_path / "table.json"
    tune(model, path, Counting())
    text = succeed("compile", model, "-o", tmp_path / "p", "--board", BOARD.name, "--tuned", path, "--no-build")
    assert re.search(r"kernels    for balanced; (\d+) of \1 were counted on cortex-m4:", text)
    assert re.search(r"\n  speed    [\d,]+ B of code, [\d,]+ instructions a step, [\d,]+ estimated cycles\n", text)
    table = Table.read(path)
    table.cost = "instructions"
    assert all(c is None or c.cycles is None for call in table.calls for c in table.counts(call).values())


@TOOLS
def test_a_table_of_another_compiler_is_ignored_and_that_is_said_once(tmp_path: Path) -> None:
    model, path = save_model(tmp_path), tmp_path / "table.json"
    tune(model, path, Counting())
    data = json.loads(path.read_text())
    assert data["compiler"] == compiler_version(BOARD)
    path.write_text(json.dumps({**data, "compiler": "mycc 1.0"}))
    text = succeed("compile", model, "-o", tmp_path / "p", "--board", BOARD.name, "--tuned", path, "--no-build")
    said = f"note       {path} is ignored: it was made for the compiler mycc 1.0, here is {compiler_version(BOARD)}"
    assert [line for line in text.splitlines() if "ignored" in line] == [said]
    plain = succeed("compile", model, "-o", tmp_path / "q", "--board", BOARD.name, "--no-build")
    assert [line for line in text.splitlines() if "counted" in line] == [line for line in plain.splitlines() if "counted" in line]


def test_bad_tables_and_boards(tmp_path: Path) -> None:
    model, path = save_model(tmp_path), tmp_path / "table.json"
    compile_ = ("compile", model, "-o", tmp_path / "p", "--no-build", "--board", BOARD.name)
    assert f"{path}: cannot be read (No such file or directory)" in sentence(*compile_, "--tuned", path)
    few = '{"processor": "", "compiler": "", "cost": "", "calls": {"a": {"made": "", "counts": {"b": [1]}}}}'
    for text in ("", "[]", '{"calls": {}}', few):
        path.write_text(text)
        assert f"{path}: is damaged or of another kind" in sentence(*compile_, "--tuned", path)
    assert "Board host has no emulator, and kernels are counted in one." in sentence("tune", model)
    assert not (tmp_path / "p").exists()
    said = succeed("compile", model, "-o", tmp_path / "p", "--no-build", "--board", "riscv-virt", "--optimize", "size")
    assert not shipped() or "kernels " in said or "no kernel was counted for rv32imafc" in said


def test_a_trial_has_what_a_real_step_reads(tmp_path: Path) -> None:
    """Labels are classes, and the same C is tried once."""
    program = understand(save_model(tmp_path), Options(board=BOARD.name)).program
    found = {t.call.partition(":")[0].partition("(")[0]: t for t in trials(program, BOARD, least=1)}
    assert {"dense", "dense_grad_w", "softmax_cross_entropy", "sgd"} <= set(found)
    loss = found["softmax_cross_entropy"]
    assert 0 <= int.from_bytes(loss.inputs[1], "little") < 10
    for one in found.values():
        functions = re.split(r"(?=static void tried_\d+\()", one.source)[1:]
        assert len(functions) >= len(one.choices) and isinstance(one, Trial)
