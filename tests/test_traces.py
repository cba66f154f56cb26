# SPDX-License-Identifier: Apache-2.0
"""Ten training steps: NumPy = host twin within tolerance, host twin = every emulated board bit for bit."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import Golden, golden_vectors
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.target.board import board_names, load_board

BOARDS = [name for name in board_names() if load_board(name).machine]
TWINS = sorted({load_board(name).twin for name in BOARDS})
SMALL = [name for name in BOARDS if (ram := load_board(name).ram) and ram.bytes < 32 << 10]
SOME = ["mps2-an385", "mps3-an547", "riscv-virt-rvv"]
STEPS = 10
CASES = {
    "mlp": (Optimiser(0.01), "full"),
    "cnn": (Optimiser(0.005, momentum=0.9, weight_decay=1e-4), "full"),
    "gesture": (Optimiser(0.01), "full"),
    "cnn-last": (Optimiser(0.01, accumulate=3), "last:2"),
    "cnn-bias": (Optimiser(0.01, momentum=0.5, nesterov=True), "bias"),
}


@dataclass(frozen=True)
class Trace:
    """What a device did: output of the first sample, loss of each step, parameters and optimiser state after the last."""

    output: Array
    losses: Array
    stored: dict[str, Array]


def compiled(model: Path, board: str, optimiser: Optimiser, scheme: str = "full") -> Compiled:
    return compile_model(model, Options(board=board, scheme=scheme, optimiser=optimiser))


def trace(program: Compiled, golden: Golden, folder: Path) -> Trace:
    write(program, folder)
    with Project.open(folder).session(timeout=600) as session:
        output = session.infer(golden.x[0])
        losses = [session.train_step(x, target).loss for x, target in zip(golden.x, golden.target, strict=True)]
        return Trace(output, np.array(losses, np.float32), session.get_params())


def need(board: str) -> None:
    tools = load_board(board)
    missing = [names for names in (tools.toolchain.cc, tools.machine[:1]) if names and not any(map(shutil.which, names))]
    if missing:
        pytest.skip(f"{board} needs {missing[0][0]}")


def assert_boards_equal_twins(boards: Sequence[str], compiled: Callable[[str], Compiled], golden: Golden, folder: Path) -> None:
    """All bits of boards are those of their twins on the host, which have learned something."""
    twins = {name: trace(compiled(name), golden, folder / name) for name in sorted({load_board(board).twin for board in boards})}
    for twin in twins.values():
        assert len(set(twin.losses.tolist())) > len(golden.x) // 2, "the losses do not move: nothing was learned"
    for board in boards:
        need(board)
        assert_same_bits(trace(compiled(board), golden, folder / board), twins[load_board(board).twin])


def model_file(case: str, folder: Path) -> Path:
    name = case.split("-")[0]
    onnx.save(zoo.model(name), folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


@dataclass(frozen=True)
class Hosts:
    """A case, its golden vectors and model file, and what each twin makes of them."""

    case: str
    golden: Golden
    model: Path
    twins: dict[str, Trace]


@pytest.fixture(scope="module", params=CASES)
def hosts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    folder = tmp_path_factory.mktemp("host")
    model = model_file(request.param, folder)
    programs = {name: compiled(model, name, *CASES[request.param]) for name in TWINS}
    golden = golden_vectors(programs["host"].program, STEPS)
    return Hosts(request.param, golden, model, {name: trace(made, golden, folder / name) for name, made in programs.items()})


def assert_reference(found: Trace, golden: Golden) -> None:
    np.testing.assert_allclose(found.output, golden.output.reshape(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.losses, golden.losses, rtol=1e-4, atol=1e-5)


def assert_same_bits(found: Trace, twin: Trace) -> None:
    np.testing.assert_array_equal(found.output, twin.output)
    np.testing.assert_array_equal(found.losses, twin.losses)
    assert found.stored.keys() == twin.stored.keys()
    for name, array in twin.stored.items():
        np.testing.assert_array_equal(found.stored[name], array, err_msg=name)


@pytest.mark.parametrize("name", TWINS)
def test_host_twin_equals_the_reference(name: str, hosts: Hosts) -> None:
    twin = hosts.twins[name]
    assert_reference(twin, hosts.golden)
    assert len(set(twin.losses.tolist())) == STEPS, "the losses do not move: nothing was learned"


def boards_of(case: str) -> list[str]:
    """A part of the update is a part of the code: boards of three kinds run it. Those with few KB of RAM train what fits there."""
    if "-" in case:
        return SOME
    return SMALL if case == "gesture" else [name for name in BOARDS if name not in SMALL]


RUNS = [pytest.param(case, board, id=f"{board}-{case}") for case in CASES for board in boards_of(case)]


@pytest.mark.parametrize(("hosts", "board"), RUNS, indirect=["hosts"])
def test_board_equals_the_host_twin_bit_for_bit(board: str, hosts: Hosts, tmp_path: Path) -> None:
    need(board)
    found = trace(compiled(hosts.model, board, *CASES[hosts.case]), hosts.golden, tmp_path / "project")
    assert_same_bits(found, hosts.twins[load_board(board).twin])


def test_subnormal_numbers_are_those_of_the_twin(tmp_path: Path) -> None:
    """Helium takes them for zeros where it computes, and the float unit beside it does not: the twin knows where each is used."""
    need("mps3-an547")
    model = model_file("cnn", tmp_path)
    optimiser = Optimiser(0.01, momentum=0.5)
    golden = golden_vectors(compiled(model, "host", optimiser).program, 2)
    faint = dataclasses.replace(golden, x=golden.x * np.float32(1e-38))
    found = {name: trace(compiled(model, name, optimiser), faint, tmp_path / name) for name in ("mps3-an547", "host-mve", "host-fused")}
    assert_same_bits(found["mps3-an547"], found["host-mve"])
    assert subnormals(found["host-mve"]) < subnormals(found["host-fused"])


def subnormals(found: Trace) -> int:
    return sum(int(np.count_nonzero((array != 0) & (abs(array) < np.float32(2**-126)))) for array in found.stored.values())


@pytest.mark.parametrize(("name", "board"), [("mlperf_ic_resnet8_bn", "mps2-an500"), ("mlperf_kws_dscnn_bn", "mps2-an386")])
def test_trained_model_in_the_emulator_equals_the_reference(name: str, board: str, shared_data: Path, tmp_path: Path) -> None:
    """Real networks with batch norm: ten full steps on an emulated board, on the twin, and in NumPy."""
    need(board)
    model = shared_data / "models" / f"{name}.onnx"
    optimiser = Optimiser(1e-4)
    twin = compiled(model, load_board(board).twin, optimiser)
    golden = golden_vectors(twin.program, STEPS)
    on_host = trace(twin, golden, tmp_path / "host")
    assert_reference(on_host, golden)
    assert_same_bits(trace(compiled(model, board, optimiser), golden, tmp_path / "board"), on_host)


def test_a_gesture_network_trains_in_8_kb_of_ram(tmp_path: Path) -> None:
    """Arena, buffers, data and stack, all that the chip has; and it learns: `tinytrain compile --board stm32vldiscovery` prints the sum."""
    need("stm32vldiscovery")
    write(compiled(model_file("gesture", tmp_path), "stm32vldiscovery", Optimiser(0.05)), tmp_path / "project")
    project = Project.open(tmp_path / "project")
    assert project.sizes().ram_bytes <= 8192
    time = np.arange(32) / 32
    gestures = [np.outer([1, p, p * p], np.sin(2 * np.pi * (1 + p) * time)).astype(np.float32) for p in (0.0, 0.5, 1.0, 2.0)]
    with project.session(timeout=600) as session:
        losses = [[session.train_step(x.ravel(), np.int32(i)).loss for i, x in enumerate(gestures)] for _ in range(25)]
        counters = session.counters()
    assert sum(losses[-1]) < 0.2 * sum(losses[0])
    assert counters.stack_bytes < counters.stack_reserved_bytes
    assert counters.clock_hz == 8_000_000, "the emulator has no crystal, and the firmware says so"


def test_instruction_counts_repeat(tmp_path: Path) -> None:
    need("mps2-an386")
    model = model_file("mlp", tmp_path)
    write(compiled(model, "mps2-an386", Optimiser()), tmp_path / "project")
    project = Project.open(tmp_path / "project")
    counts = []
    for _ in range(2):
        with project.session(icount=True) as session:
            counts.append([session.train_step(np.ones(64), np.int32(1)).instructions for _ in range(2)])
    assert counts[0] == counts[1]
    assert counts[0][1] is not None and counts[0][1] > 10_000
