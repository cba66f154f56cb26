# SPDX-License-Identifier: Apache-2.0
"""Training with gradients stored as fp16: the same bits on host and boards, gradients that point where those in fp32 do, less arena."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import succeed
from test_int8_training import STEPS, int8_model
from test_traces import assert_boards_equal_twins, trace

from tinytrain import zoo
from tinytrain.compiler import Compiled, Gradients, Options, compile_model
from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.loss_scale import LossScale
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import F16, F32, Array, Role
from tinytrain.quantise.convert import quantise_model
from tinytrain.quantise.lockstep import Options as QuantiseOptions
from tinytrain.report.live import Quiet
from tinytrain.verify.reference import ReferenceModel, run


@pytest.fixture(scope="module", params=["fp32", "int8"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in CNN."""
    folder = tmp_path_factory.mktemp(request.param)
    quantised = int8_model(zoo.model("cnn"), folder)
    return quantised if request.param == "int8" else folder / "cnn.onnx"


def compiled(model: Path, board: str = "host", grad: Gradients = "fp16", loss_scale: float = 2.0**10, **optimiser: object) -> Compiled:
    return compile_model(
        model, Options(board=board, grad=grad, loss_scale=LossScale(loss_scale), optimiser=Optimiser(0.02, **optimiser))  # type: ignore[arg-type]
    )


def halves(graph: Graph) -> set[str]:
    return {v.name for v in graph.values() if v.type.dtype is F16}


def test_boards_equal_the_host_twin_bit_for_bit(model: Path, tmp_path: Path) -> None:
    # all by integers, an instruction for halves, floats by instructions but halves by integers; and vectors of the updates of int8
    boards = ["mps2-an385", "mps2-an500", "riscv-virt", *(["mps3-an547", "riscv-virt-rvv"] if model.stem == "int8" else [])]
    assert_boards_equal_twins(boards, lambda board: compiled(model, board), golden_vectors(compiled(model).program, STEPS), tmp_path)


def test_host_twin_equals_the_reference_after_one_step(model: Path, tmp_path: Path) -> None:
    """Sums in another order may fall to the other side of a rounding, of a half or of a weight: no further, and seldom."""
    program = compiled(model)
    golden = golden_vectors(program.program, 2)           # the first step only tries the loss scale
    twin = trace(program, golden, tmp_path / "host")
    reference = ReferenceModel(program.program)
    for x, target in zip(golden.x, golden.target, strict=True):
        reference.train_step(x, target)
    gaps = []
    for v in program.program.stored(Role.PARAM):
        assert v.source is not None
        found, want = twin.stored[v.source.initializer], reference.state[v].reshape(-1)
        if v.type.dtype is F32:
            np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5, err_msg=v.name)
        else:
            gaps.append(np.abs(found.astype(np.int64) - want.astype(np.int64)))
            assert gaps[-1].max() <= 1, v.name
    assert not gaps or (np.concatenate(gaps) == 0).mean() >= 0.999


def weight_gradients(model: Path, grad: Gradients, loss_scale: float = 2.0**10) -> dict[str, Array]:
    """Of one sample, by name: what `train` adds to the sums, which are fp32."""
    graph = compiled(model, grad=grad, loss_scale=loss_scale, accumulate=2).program.entries["train"]
    rng = np.random.default_rng(5)
    updates = run(graph, [rng.standard_normal(graph.inputs[0].shape), np.array([3])]).updates
    return {old.name: new.astype(np.float64).reshape(-1) for old, new in updates.items() if old.name.startswith("sum_")}


def test_gradients_point_where_those_in_fp32_do(model: Path) -> None:
    exact, found = weight_gradients(model, "fp32"), weight_gradients(model, "fp16")
    assert len(exact) == 6
    for name, want in exact.items():
        assert np.vdot(found[name], want) >= 0.999999 * np.linalg.norm(found[name]) * np.linalg.norm(want), name
        np.testing.assert_allclose(np.linalg.norm(found[name]), np.linalg.norm(want), rtol=1e-3, err_msg=name)


def test_small_gradients_underflow_without_loss_scale(tmp_path: Path) -> None:
    """Gradients of stored numbers carry the scales of int8; a 2^-10 less, and none of the first layer's is left."""
    quantised = int8_model(zoo.model("cnn"), tmp_path)
    exact, found = (weight_gradients(quantised, "fp16", scale)["sum_conv1_weight_q"] for scale in (2.0**10, 2.0**-10))
    assert exact.any() and not found.any()


@pytest.mark.parametrize(
    "kept", [{}, {"momentum": 0.9, "weight_decay": 1e-3}, {"accumulate": 3}, {"kind": "adam"}, {"momentum": 0.9, "int8_momentum": True}]
)
def test_loss_scale_is_divided_out_exactly(kept: dict[str, object], tmp_path: Path) -> None:
    """A power of two changes no bit of the weights, whatever the optimiser keeps."""
    (tmp_path / "mlp.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    learned = []
    for scale in (1.0, 2.0**10):
        optimiser = Optimiser(0.02, loss_scale=LossScale(scale), **kept)  # type: ignore[arg-type]
        learner = ReferenceModel(compile_model(tmp_path / "mlp.onnx", Options(optimiser=optimiser)).program)
        golden = golden_vectors(learner.program, 6)
        for x, target in zip(golden.x, golden.target, strict=True):
            learner.train_step(x, target)
        learned.append(learner.parameters())
    for name, array in learned[0].items():
        np.testing.assert_array_equal(array, learned[1][name], err_msg=name)


def test_only_activation_gradients_are_halved(model: Path) -> None:
    program = compiled(model).program
    train = program.entries["train"]
    assert halves(train) and not any(halves(graph) for key, graph in program.entries.items() if key != "train")
    assert all(name.startswith("d_") for name in halves(train))
    maps = {v.name for v in train.values() if v.name in halves(train) and len(v.shape) == 3}
    assert len(maps) >= 2, "the gradients of both convolutions' results"
    # what an update follows: here the gradient of the classifier's bias, which is that of its result
    final = next(node.inputs[0] for node in train.nodes if node.op.name.startswith("sgd"))
    assert final.type.dtype is F32


def test_weight_gradients_stay_fp32(tmp_path: Path) -> None:
    """Those that exist in memory: sums of several samples are added up in fp32."""
    (tmp_path / "mlp.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    program = compiled(tmp_path / "mlp.onnx", accumulate=2).program
    assert program.sums() and all(v.type.dtype is F32 for v in program.sums())
    assert all(new.type.dtype is not F16 for graph in program.entries.values() for new in graph.updates.values())


def test_arena_gets_smaller(tmp_path: Path) -> None:
    quantised = int8_model(zoo.model("cnn"), tmp_path)
    wide, narrow = (compiled(quantised, grad=grad).plan.arena_bytes for grad in ("fp32", "fp16"))
    assert narrow <= 0.85 * wide


@pytest.mark.parametrize(
    ("name", "shape", "share"), [("mlperf_kws_dscnn_bn", (1, 49, 10), 0.8), ("mlperf_ic_resnet8_bn", (3, 32, 32), 0.7)]
)
def test_trained_networks(name: str, shape: tuple[int, ...], share: float, shared_data: Path, tmp_path: Path) -> None:
    """Any loss scale from 2^6 to 2^16 gives the directions of fp32; where the backward pass is the peak, the arena is smaller."""
    real = shared_data / "models" / f"{name}.onnx"
    np.savez(tmp_path / "noise.npz", x=np.random.default_rng(0).standard_normal((16, *shape)).astype(np.float32))
    quantised = tmp_path / "int8.onnx"
    quantised.write_bytes(quantise_model(real, tmp_path / "noise.npz", QuantiseOptions(), Quiet()).model.SerializeToString())
    for path in (real, quantised):
        exact = weight_gradients(path, "fp32")
        for bits in (6, 10, 16):
            found = weight_gradients(path, "fp16", 2.0**bits)
            for key, want in exact.items():
                assert np.vdot(found[key], want) >= 0.9999 * np.linalg.norm(found[key]) * np.linalg.norm(want), (path.name, bits, key)
    wide, narrow = (compiled(quantised, grad=grad).plan.arena_bytes for grad in ("fp32", "fp16"))
    assert narrow <= share * wide


def test_command_line_takes_fp16(tmp_path: Path) -> None:
    (tmp_path / "cnn.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    succeed("compile", tmp_path / "cnn.onnx", "--grad", "fp16", "-o", tmp_path / "out", "--no-build")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["gradients"] == "fp16" and manifest["optimiser"]["loss_scale"] == {"start": 1024, "steps": 200, "on_overflow": "rest"}
    assert "tt_half_to_float" in (tmp_path / "out" / "lib" / "cnn_kernels.h").read_text()
