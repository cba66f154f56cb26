# SPDX-License-Identifier: Apache-2.0
"""What a scheme costs: the numbers of compile, estimates against what was measured, and `tinytrain scheme show`."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_model, sentence, succeed

from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.fit import check_budget
from tinytrain.emit.select import Count, Kernels
from tinytrain.emit.tuned import Entry, Table, Tuning, calls_of, made_of, processor
from tinytrain.errors import DoesNotFit
from tinytrain.ir.op import f32
from tinytrain.ir.types import Role
from tinytrain.ops.conv import Conv2d, Pad
from tinytrain.ops.simd import SIMD
from tinytrain.schemes.scheme import Scheme, Select, preset
from tinytrain.search.cost import Costs

BOARD = "mps2-an500"
RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
CLOSE = 0.25                                              # of what is measured


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("cost"), "cnn")


@pytest.fixture(scope="module")
def costs(cnn: Path) -> Costs:
    return Costs(cnn, Options(board=BOARD))


@pytest.mark.parametrize("name", ["full", "last:2", "bias", "head"])
def test_sizes_are_those_of_compile(cnn: Path, costs: Costs, name: str) -> None:
    cost = costs.cost(preset(name, costs.forward), exact_seconds=3.0)
    compiled = compile_model(cnn, Options(board=BOARD, scheme=name))
    assert cost.arena_bytes == compiled.plan.arena_bytes
    assert compiled.room is not None and cost.ram_bytes == compiled.room.ram_bytes
    check_budget(compiled.program, compiled.plan, compiled.board, cost.ram_bytes)
    with pytest.raises(DoesNotFit):
        check_budget(compiled.program, compiled.plan, compiled.board, cost.ram_bytes - 1)
    params = compiled.program.stored(Role.PARAM)
    assert cost.updated_bytes == sum(v.type.nbytes for v in params)
    assert cost.weights + cost.biases == sum(v.type.numel for v in params)


def test_parts_add_up_to_the_whole(costs: Costs) -> None:
    cost = costs.cost(preset("full", costs.forward))
    assert (cost.weights, cost.biases) == (8 * 9 + 16 * 72 + 10 * 256, 8 + 16 + 10)
    for what in ("weights", "biases", "updated_bytes", "saved_bytes", "backward_macs"):
        assert sum(getattr(layer, what) for layer in cost.layers) == getattr(cost, what), what
    assert cost.forward_macs == 64 * 8 * 9 + 16 * 16 * 72 + 2560
    # the first layer has no gradient of its input
    assert cost.backward_macs == cost.forward_macs + 16 * 16 * 72 + 2560


def test_saved_activations_end_where_training_does(costs: Costs) -> None:
    saved = {layer.layer: layer.saved_bytes for layer in costs.cost(preset("last:2", costs.forward)).layers}
    # what conv2 reads, 8x8x8 floats; for fc the 256 floats that it reads, and what the loss keeps of 10 outputs
    assert saved == {"conv1": 0, "conv2": 2048, "fc": 1024 + 40}


def test_less_of_a_weight_costs_less(costs: Costs) -> None:
    whole, half = (costs.cost(Scheme({"conv2": {"weight": Select(part)}})) for part in (1.0, 0.5))
    assert half.weights * 2 == whole.weights
    assert half.ram_bytes < whole.ram_bytes and half.backward_macs < whole.backward_macs
    assert half.instructions and whole.instructions and half.instructions < whole.instructions
    assert half.data_bytes == whole.data_bytes            # nothing is stored twice


def test_a_scheme_is_planned_once(costs: Costs, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = preset("last:1", costs.forward)
    first = costs.cost(scheme)
    monkeypatch.setattr(costs, "program", None)
    assert costs.cost(dataclasses.replace(scheme)) is first


@pytest.mark.skipif(not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))), reason="needs the Arm compiler and emulator")
@pytest.mark.parametrize("scheme", ["full", "bias"])
def test_estimates_are_close_to_the_emulator(cnn: Path, costs: Costs, scheme: str, tmp_path: Path) -> None:
    cost = costs.cost(preset(scheme, costs.forward))
    write(compile_model(cnn, Options(board=BOARD, scheme=scheme)), tmp_path / "project")
    project = Project.open(tmp_path / "project")
    with project.session(icount=True) as session:
        measured = session.train_step(np.ones((8, 8, 1), np.float32), np.int32(3)).instructions
    assert measured and cost.instructions
    assert abs(cost.instructions / measured - 1) < CLOSE, f"{cost.instructions:,} estimated, {measured:,} measured"
    flash_bytes = project.sizes().flash_bytes
    assert abs(cost.flash_bytes / flash_bytes - 1) < CLOSE, f"{cost.flash_bytes:,} estimated, {flash_bytes:,} linked"


def test_estimate_of_mcunet_is_close_to_its_benchmark(shared_data: Path) -> None:
    """The published workload's scheme, counted by `make bench-mcunet`."""
    record = json.loads((RESULTS / "mcunet.json").read_text())[0]
    layers = json.loads((shared_data / "models" / "mcunet5fps_10cls_workload.json").read_text())["layers"]
    chosen: dict[str, dict[str, Select]] = {}
    for layer in layers:
        channels = layer["update_weight_in_channels"]
        kinds = {"weight": Select(channels=tuple(range(channels)) if channels < layer["in_chw"][0] else ())} if channels else {}
        kinds |= {"bias": Select()} if layer["update_bias"] else {}
        chosen |= {layer["name"]: kinds} if kinds else {}
    costs = Costs(shared_data / "models" / "mcunet5fps_10cls_qdq_int8.onnx", Options(board=record["board"], int8_input=True))
    cost = costs.cost(Scheme(chosen))
    assert cost.instructions
    assert abs(cost.instructions / record["instructions"] - 1) < CLOSE, f"{cost.instructions:,} estimated"


def test_work_of_a_kernel_is_what_its_loops_do() -> None:
    """3×3 over 8×8 with a border of 1: (2 + 6·3 + 2)² live taps, each 8 times 8 products; tiles of 5 are none of padding."""
    op, types = Conv2d(pad=Pad(1, 1, 1, 1)), f32((8, 8, 8), (8, 3, 3, 8))
    simd = next(simd for simd in SIMD if simd.tag == "vfp")
    work = simd.sweeps({"P": 5}, op, *types)
    live, strips = (2 + 6 * 3 + 2) ** 2, 2
    assert (work["mac"], work["pixel"], work["strip"], work["packed"]) == (live * 8 * strips, 64 * strips, strips, 9 * 8 * strips)
    smaller = simd.sweeps({"P": 1}, op, *types)
    assert smaller["mac"] == work["mac"] == smaller["step"] and smaller["tile"] == smaller["pixel"] > work["tile"]
    outer = simd.outer({"P": 4}, 8, 8, op.geometry(*types))
    assert (outer["mac"], outer["out"], outer["tap"]) == (live * 8 * 2, 9 * 8 * 2, 9)


def test_counts_of_the_tuner_come_before_estimates(cnn: Path) -> None:
    costs = Costs(cnn, Options(board=BOARD))
    scheme = preset("full", costs.forward)
    before = costs.cost(scheme)
    program = costs.program(scheme)
    (call, nodes), *_ = calls_of(program).items()
    choice = Kernels(costs.board.isa).select(nodes[0]).choice
    entry = Entry(made_of(nodes[0], choice), "", {str(choice): Count(10**9, 2 * 10**9, 100)})
    costs = Costs(cnn, Options(board=BOARD))
    costs.tuning = Tuning(costs.board, (Table(processor(costs.board), "a compiler", calls={call: entry}),))
    after = costs.cost(scheme)
    assert before.instructions and after.instructions and before.cycles and after.cycles
    assert 10**9 < after.instructions < 10**9 + before.instructions and 2 * 10**9 < after.cycles < 2 * 10**9 + before.cycles


def test_every_emulated_core_is_counted() -> None:
    from tinytrain.emit.instructions import load_table
    from tinytrain.target.board import board_names, load_board

    boards = [load_board(name) for name in board_names()]
    assert all((load_table(board.core) is None) == board.is_host for board in boards)


def test_show_is_a_table_of_layers_and_totals(cnn: Path) -> None:
    text = succeed("scheme", "show", cnn, "--scheme", "last:1", "--board", BOARD)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["fc"][:3] == ["2,560", "10", "10,280"] and rows["conv1"] == ["-"] * 6
    assert {"updated", "saved", "MACs", "RAM", "flash", "step"} <= set(rows)
    assert re.search(r"^step +[\d,]+ instructions, [\d,]+ cycles of cortex-m7: [\d.]+ ms at 25 MHz, without waits", text, re.MULTILINE)
    assert "not counted on this board" in succeed("scheme", "show", cnn, "--scheme", "last:1")


def test_scheme_without_a_word_writes(cnn: Path) -> None:
    assert succeed("scheme", cnn, "--last", 1) == succeed("scheme", "write", cnn, "--scheme", "last:1")
    assert "Unknown scheme 'half'" in sentence("scheme", "show", cnn, "--scheme", "half")
    assert "a model that only infers has no scheme to show" in sentence("scheme", "show", cnn, "--loss", "none")


@pytest.mark.skipif(not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))), reason="needs the Arm compiler and emulator")
def test_each_call_of_a_step_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy", reason="the table is fitted with SciPy")
    monkeypatch.syspath_prepend(str(RESULTS.parent))
    measure = importlib.import_module("instructions").measure
    save_model(tmp_path)
    compiled = compile_model(tmp_path / "mlp.onnx", Options(board="mps2-an386"))
    calls = measure(compiled, tmp_path / "project")["calls"]
    assert len(calls) == sum(not node.op.view for node in compiled.plan.entries["train"].graph.nodes) > 5


def test_estimate_of_halves_is_not_less_than_half(shared_data: Path) -> None:
    """Kernels that only store halves were not counted: they are taken for those of fp32, and take somewhat more."""
    record = next(
        r for r in json.loads((RESULTS / "fp16.json").read_text()) if (r["workload"], r["form"]) == ("resnet8-mlperf", "fp16")
    )
    costs = Costs(shared_data / "models" / "mlperf_ic_resnet8_bn.onnx", Options(board=record["board"], dtype="fp16"))
    cost = costs.cost(preset("full", costs.forward))
    assert cost.estimate and cost.estimate.uncounted
    assert 0.6 < cost.estimate.instructions / record["instructions"] <= 1.0
