# SPDX-License-Identifier: Apache-2.0
"""Training of int8 models: host twin = every board bit for bit over 50 steps; NumPy within one unit after the first; the loss falls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper
from test_traces import BOARDS, SMALL, assert_boards_equal_twins, trace

from tinytrain import passes, zoo
from tinytrain.compiler import Compiled, Options, compile_model, load_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import ModelError
from tinytrain.gradient.objective import losses, with_loss
from tinytrain.gradient.train_step import inference
from tinytrain.gradient.update import Optimiser, Rounding
from tinytrain.ir.op import Declined
from tinytrain.ir.types import Array, Role, TensorType, Value
from tinytrain.quantise.convert import quantise_model
from tinytrain.quantise.lockstep import Options as QuantiseOptions
from tinytrain.report.live import Quiet
from tinytrain.schemes.choose import choose
from tinytrain.schemes.scheme import resolve
from tinytrain.verify.checks import model_gradients
from tinytrain.verify.model import verify_model
from tinytrain.verify.oracle import tvm_gradients
from tinytrain.verify.reference import ReferenceModel

STEPS = 50
ROUNDINGS: tuple[Rounding, ...] = ("stochastic", "nearest", "residual", "master", "truncate")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in CNN in int8, calibrated on seeded samples like those of the golden vectors."""
    return int8_model(zoo.model("cnn"), tmp_path_factory.mktemp("int8"))


def int8_model(real: ModelProto, folder: Path) -> Path:
    (folder / "cnn.onnx").write_bytes(real.SerializeToString())
    np.savez(folder / "data.npz", x=np.random.default_rng(0).standard_normal((64, 1, 8, 8)).astype(np.float32))
    quantised = quantise_model(folder / "cnn.onnx", folder / "data.npz", QuantiseOptions(), Quiet())
    (folder / "int8.onnx").write_bytes(quantised.model.SerializeToString())
    return folder / "int8.onnx"


def compiled(model: Path, board: str, rounding: Rounding = "stochastic", **options: object) -> Compiled:
    optimiser = Optimiser(0.02, momentum=0.5 if rounding == "residual" else 0.0, rounding=rounding)
    return compile_model(model, Options(board=board, optimiser=optimiser, int8_input=True, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_boards_equal_the_host_twin_bit_for_bit(rounding: Rounding, model: Path, tmp_path: Path) -> None:
    # all boards for the default; of the others the updates alone differ: one without floats, one of RISC-V
    large = [name for name in BOARDS if name not in SMALL]
    boards = large if rounding == "stochastic" else [("mps2-an385", "riscv-virt")[ROUNDINGS.index(rounding) % 2]]
    golden = golden_vectors(compiled(model, "host", rounding).program, STEPS)
    assert_boards_equal_twins(boards, lambda board: compiled(model, board, rounding), golden, tmp_path)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_host_twin_equals_the_reference_after_one_step(rounding: Rounding, model: Path, tmp_path: Path) -> None:
    """Sums of floats differ in their order: a weight may fall to the other side of a rounding, no further and seldom."""
    program = compiled(model, "host", rounding)
    golden = golden_vectors(program.program, 1)
    twin = trace(program, golden, tmp_path / "host")
    np.testing.assert_array_equal(twin.output, golden.output.reshape(-1))
    np.testing.assert_allclose(twin.losses, golden.losses, rtol=1e-5)
    reference = ReferenceModel(program.program)
    kind = program.program.entries["infer"].inputs[0].type
    assert kind.quant is not None
    stored = np.rint(golden.x[0] / np.float32(kind.quant.scale[0])) + kind.quant.zero_point
    reference.train_step(stored.astype(np.int8), golden.target[0])
    compared = equal = 0
    for v in program.program.stored(Role.PARAM):
        name = v.source.initializer if v.source else v.name
        gap = np.abs(twin.stored[name].astype(np.int64) - reference.state[v].reshape(-1).astype(np.int64))
        assert gap.max() <= 1, f"{name} differs by {gap.max()}"
        compared, equal = compared + gap.size, equal + int((gap == 0).sum())
    assert equal >= 0.999 * compared


def test_scaling_is_that_of_fp32_training(model: Path) -> None:
    """With QAS a step of the real weight s·q is that of plain SGD on the real weight: −lr·dL/dw, up to rounding."""
    scaled, plain = (compiled(model, "host", "nearest", qas=qas) for qas in (True, False))
    factors = [
        {v.name: v for v in program.program.entries["train"].values() if v.name.startswith("factor_")} for program in (scaled, plain)
    ]
    assert factors[0].keys() == factors[1].keys() and factors[0]
    weights = {v.name: v for v in scaled.program.stored(Role.PARAM)}
    for name, value in factors[0].items():
        quant = weights[name.removeprefix("factor_")].type.quant
        assert quant is not None and value.data is not None and factors[1][name].data is not None
        np.testing.assert_array_equal(factors[1][name].data, 1.0)  # type: ignore[arg-type]
        np.testing.assert_allclose(value.data.reshape(-1), np.array(quant.scale) ** -2.0, rtol=1e-6)


def test_gradients_are_those_of_the_real_model(tmp_path: Path) -> None:
    """dL/dw of the fp32 model that the int8 weights stand for, by tensor: cosine at least 0.999, straight through the roundings.

    Saturation is excluded: biases keep each activation away from the zero of its ReLU, where rounding decides which side it is on.
    """
    shifted = zoo.model("cnn")
    for tensor in shifted.graph.initializer:
        if tensor.name in ("conv1_bias", "conv2_bias"):
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims[0], 12.0, np.float32), tensor.name))
    model = int8_model(shifted, tmp_path)
    integer, ours, sample, target = gradients_of(model, None)
    stands_for = {v.name.removesuffix("_q"): (v.data.astype(np.float64), v.type) for v in ours if v.data is not None}
    real = {name: scaled(stored, kind) for name, (stored, kind) in stands_for.items()}
    exact, theirs, _, _ = gradients_of(model.parent / "cnn.onnx", real, sample, target)
    for mine, other in zip(ours, theirs, strict=True):
        a = scaled(integer[mine], mine.type, -1).reshape(-1)      # stored = real / s, so d/d real = (d/d stored) / s
        b = exact[other].reshape(-1)
        assert np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999, mine.name


def scaled(stored: Array, kind: TensorType, power: int = 1) -> Array:
    """stored · scale^power, channel by channel."""
    assert kind.quant is not None
    scales = np.array(kind.quant.scale) ** float(power)
    return np.asarray(stored * scales.reshape([-1 if a == (kind.quant.axis or 0) else 1 for a in range(stored.ndim)]))


def gradients_of(
    path: Path, real: dict[str, Array] | None, sample: Array | None = None, target: Array | None = None
) -> tuple[dict[Value, Array], list[Value], Array, Array]:
    """(gradients in float64, the parameters, sample, target); `real` replaces the weights by name."""
    _, imported = load_model(path, Options())
    forward = inference(passes.run(imported.graph, passes.FORWARD))
    wanted = list(choose(resolve("full", forward), forward)[1])
    graph, _, loss = with_loss(forward, losses()["ce"]())
    if sample is None or target is None:
        # small enough that nothing saturates
        sample, target = np.random.default_rng(3).uniform(-1, 1, graph.inputs[0].shape), np.array([4], np.int32)
    state = {v: real[v.name] for v in wanted} if real else None
    return model_gradients(graph, loss, wanted, [sample, target], state), wanted, sample, target


def test_repeated_sample_is_learned(model: Path, tmp_path: Path) -> None:
    program = compiled(model, "host")
    write(program, tmp_path / "project")
    golden = golden_vectors(program.program, 1)
    with Project.open(tmp_path / "project").session() as session:
        losses = [session.train_step(golden.x[0], golden.target[0]).loss for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


def test_int8_gradients_are_not_verified_against_differences(model: Path) -> None:
    with pytest.raises(ModelError, match="is an int8 model: rounding has no derivative to compare with"):
        verify_model(model, Options(), "differences", 4)


def test_oracle_says_what_it_cannot_differentiate(model: Path) -> None:
    pytest.importorskip("tvm", reason="TVM is not installed")
    answer = tvm_gradients(onnx.load(model), "ce", np.zeros((1, 1, 8, 8)), np.array([1]), {})
    assert isinstance(answer, Declined) and "TVM cannot differentiate" in answer.why
