# SPDX-License-Identifier: Apache-2.0
"""The limits that benchmark workloads must keep: instructions of a training step, bytes of RAM in all; and no count grows unseen."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.target.board import load_board

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
LIMITS = {"mlp": (32_000, 12_500), "cnn": (470_000, 21_500)}


RECOUNTED = [("mlp", "mps2-an386"), ("mlp", "mps2-an500"), ("cnn", "mps2-an386"), ("cnn", "mps2-an500"), ("dscnn-fp32", "riscv-virt")]
MOST_GROWTH = 0.02


def load(name: str) -> ModuleType:
    """A module of benchmarks/, with those that it imports."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("workload", LIMITS)
@pytest.mark.skipif(not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))), reason="needs the Arm compiler and emulator")
def test_workload_keeps_its_limits(workload: str, tmp_path: Path) -> None:
    record = load("micro").measure(workload, tmp_path)
    instructions, ram_bytes = LIMITS[workload]
    assert record.instructions <= instructions
    assert record.ram_bytes <= ram_bytes


def need_tools(name: str) -> None:
    board = load_board(name)
    for tool in ((board.toolchain.cc[0],), board.toolchain.objdump[:1], board.machine[:1]):
        if not any(map(shutil.which, tool)):
            pytest.skip(f"needs {tool[0]}")


@pytest.mark.parametrize(("workload", "board"), RECOUNTED)
def test_no_count_grows_without_its_result_file(workload: str, board: str, tmp_path: Path) -> None:
    need_tools(board)
    speed = load("speed")
    rows = {(row["workload"], row["board"]): row for row in json.loads(speed.RESULTS.read_text())}
    chosen = next(w for w in speed.WORKLOADS if w.name == workload)
    limit = next(at for at in chosen.limits if at.board == board)
    before, now = rows[workload, board], speed.measure(chosen, limit, tmp_path)
    for key in ("instructions", "estimated_cycles"):
        most = before[key] * (1 + MOST_GROWTH)
        assert getattr(now, key) <= most, f"{key}: if that is meant, run make bench-speed ARGS=\"--only {workload}\" and commit its result"


def test_result_file_has_every_row() -> None:
    speed = load("speed")
    rows = json.loads(speed.RESULTS.read_text())
    assert [(row["workload"], row["board"]) for row in rows] == [(w.name, at.board) for w in speed.WORKLOADS for at in w.limits]
    assert all(row.get("refused") or row["instructions"] for row in rows)


def test_step_beside_pytorch_is_that_of_the_network(tmp_path: Path) -> None:
    host = load("host")
    network = host.LIMITS["dscnn-fp32"].make()
    assert host.twin(network, tmp_path)() == pytest.approx(network.loss, abs=2e-6)
    rows = {row["workload"]: row for row in json.loads(host.RESULTS.read_text())}
    assert {name: rows[name]["ratio"] >= limit.ratio for name, limit in host.LIMITS.items()} == dict.fromkeys(rows, True)


@pytest.mark.parametrize("name", ["mps2-an386", "riscv-virt"])
def test_instructions_one_by_one_are_those_of_the_counter(name: str, tmp_path: Path) -> None:
    """All but those of the counter itself, to within one tick of it; and the same in each step on equal data."""
    need_tools(name)
    board = load_board(name)
    onnx.save(zoo.model("mlp"), tmp_path / "mlp.onnx")
    write(compile_model(tmp_path / "mlp.onnx", Options(board=name)), tmp_path / "project")
    with Project.open(tmp_path / "project").session(icount=True, counts=True) as session:
        counted = session.train_step(np.zeros(64), 3).instructions
        first = session.profile()
        session.infer(np.zeros(64))
        assert session.profile().instructions < first.instructions / 2
    assert counted is not None and abs(first.instructions - counted) <= 1_000_000_000 // board.timer_hz + 20
    assert sum(first.kinds.values()) == sum(n for n, _ in first.functions.values()) == first.instructions
    assert first.cycles == pytest.approx(sum(cycles for _, cycles in first.functions.values()), abs=1)
    assert not {"tt_port_count_start", "tt_port_get", "tt_systick_handler"} & set(first.functions)


def test_fp16_rows_are_there_and_keep_their_ram() -> None:
    fp16 = load("fp16")
    rows = {(row["workload"], row["board"], row["form"]): row for row in json.loads(fp16.RESULTS.read_text())}
    assert list(rows) == [key for _, key in fp16.planned()], "run make bench-fp16 ARGS=--keep and commit its result"
    for key, limit in fp16.LIMITS.items():
        if limit.ram is not None or limit.than != "fp32":
            assert not fp16.short(rows[key], rows[(*key[:2], limit.than)], limit), key


def test_docs_have_the_figures_of_fp16() -> None:
    page = (BENCHMARKS.parent / "docs" / "training.md").read_text(encoding="utf-8")
    fp16 = load("fp16")
    for row in json.loads(fp16.RESULTS.read_text()):
        ram, step = f"{row['ram_bytes']:,} B", f"{row['instructions'] / 1e6:,.1f} M |"
        if row["workload"] != "resnet8":
            assert ram in page, f"{row['workload']} {row['form']}: {ram}"
        elif row["form"] != "fp16-no-master":
            head = f"| `{row['board']}`" + (f", {len(row['shared'])} cores |" if row.get("shared") else " |")
            line = next(line for line in page.splitlines() if line.startswith(head))
            assert step in line, f"{row['board']} {row['form']}: {step}"
    for row in json.loads(load("fp16_ablation").RESULTS.read_text()):
        cells = [f"{part:.1%}" for part in row["flushed"].values()] + [f"{off:.2%}" for off in row["error_fp32_sums"].values()]
        assert any(all(cell in line for cell in cells) for line in page.splitlines()), (row["task"], cells)


def test_ram_of_a_step_without_masters_is_half(tmp_path: Path) -> None:
    """Counted anew, all of it, as every figure of benchmarks/results/fp16.json is."""
    fp16 = load("fp16")
    need_tools(fp16.RAM_BOARD)
    rows = {row["form"]: row for row in json.loads(fp16.RESULTS.read_text()) if row["workload"] == "har"}
    har = next(workload for workload in fp16.WORKLOADS if workload.name == "har")
    now = fp16.measure(har, fp16.RAM_BOARD, "fp16-no-master", tmp_path)
    assert now.ram_bytes <= 0.55 * rows["fp32"]["ram_bytes"]
    assert now.ram_bytes <= rows["fp16-no-master"]["ram_bytes"] * (1 + MOST_GROWTH), "run make bench-fp16 and commit its result"
    assert abs(now.loss - rows["fp32"]["loss"]) <= 1e-3 * rows["fp32"]["loss"]


def test_sums_in_fp16_are_rounded_each_time() -> None:
    """The ablation's arrays: 2048 + 1 is 2048 in fp16, however many ones there are."""
    ablation = load("fp16_ablation")
    row = np.ones((1, 1000), np.float32)
    row[0, 0] = 2048
    half, ones = row.view(ablation.HalfSums), np.ones((1000, 1), np.float32)
    assert (half @ ones).item() == 2048 and (row @ ones).item() == 3047
    assert half.sum() == 2048 and half.sum(axis=1, keepdims=True).shape == (1, 1)
    total = np.full((1, 1), 2048, np.float32)
    total += np.ones((1, 1), np.float32).view(ablation.HalfSums)
    assert total.item() == 2048
