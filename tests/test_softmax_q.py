# SPDX-License-Identifier: Apache-2.0
"""Softmax of int8 by a table: rounded right, like onnxruntime, the same bits on every board, without floats, and absorbed by the loss."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import RNG, f32, infer, op_names
from oracle_session import session_of
from quant_models import SHARE, Qdq

from tinytrain.compiler import Gradients, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.kernels import KernelCall, render
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import S8, TensorType
from tinytrain.ops.integer_ends import TABLE
from tinytrain.ops.softmax_q import SoftmaxQ
from tinytrain.target.board import board_names, load_board
from tinytrain.verify.reference import ReferenceModel

ROWS = (1, 2, 10, 1000)


@pytest.mark.parametrize("scale_in", [0.004, 0.05, 0.4, 4.0])
@pytest.mark.parametrize("length", [*ROWS, 70_000])
def test_reference_is_the_rounded_softmax(length: int, scale_in: float) -> None:
    """Also where more classes than a 32-bit sum could hold are all alike but one."""
    op = SoftmaxQ(2**-8, -128, scale_in=scale_in)
    alike = np.full(length, -20, np.int8)
    alike[length // 2] = 127
    rows = np.stack([*RNG.integers(-128, 128, (4, length)).astype(np.int8), alike, np.full(length, 127, np.int8)])
    (got,) = op.reference(rows, op.table())
    e = np.exp(scale_in * (rows - rows.max(axis=-1, keepdims=True).astype(np.float64)))
    want = np.clip(np.floor(e / e.sum(axis=-1, keepdims=True) * 256 + 0.5) - 128, -128, 127)
    assert (got != want).mean() <= 1e-4
    assert np.abs(got - want).max() <= 1


@pytest.mark.parametrize("uint8", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize(("shape", "axis"), [
    *(((1, length), -1) for length in ROWS), ((1, 10), 0), ((1, 4, 5, 6), 1), ((1, 4, 5, 6), 2), ((1, 4, 5, 6), 3), ((1, 7, 3), -1),
])
def test_like_onnxruntime(shape: tuple[int, ...], axis: int, uint8: bool, tmp_path: Path) -> None:
    """Within one step on 99.9 % of the elements, most of them the same."""
    pytest.importorskip("onnxruntime")
    for high in (2.0, 20.0):
        net = Qdq(uint8)
        probs = net.add("Softmax", net.quantised("x", -high, high), "p", axis=axis)
        net.quantised(probs, 0.0, 255 / 256, name="y")
        prepared, imported = net.load(tmp_path, shape)
        assert "softmax_q" in op_names(imported)
        assert not imported.float_islands
        sample = high * f32(*shape)
        (want,) = session_of(prepared.model).run(None, {"x": sample})
        gap = np.abs(infer(imported, sample) - want) * 256
        assert (gap <= 1).mean() >= SHARE
        assert (gap == 0).mean() >= 0.98


def test_without_quantize_linear_it_stays_fp32(tmp_path: Path) -> None:
    net = Qdq()
    net.add("Softmax", net.quantised("x"), "y", axis=-1)
    _, imported = net.load(tmp_path, (1, 10))
    assert op_names(imported) == ["quantise", "dequantise", "softmax"]
    assert imported.float_islands == ("Softmax_y",)


@pytest.mark.parametrize(("scale", "scale_in", "message"), [
    (5.0, 1.0, "a scale of 5.0 for probabilities: at most 4"), (1.0, 0.0, "a scale of 0.0"),
])
def test_impossible_scales_are_refused(scale: float, scale_in: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftmaxQ(scale, scale_in=scale_in).infer(TensorType((3,), S8), TABLE)


def test_kernel_computes_without_floats() -> None:
    """And without dividing 64 bits, which a linker without libgcc does not find."""
    kind = TensorType((10,), S8)
    call = KernelCall(SoftmaxQ(2**-8, -128), (kind, TABLE), (kind,), SoftmaxQ.kernels[0])
    text = render(call, "softmax").split("{", 1)[1]
    assert not [word for word in ("float", "double", " / ", " % ") if word in text.replace("dividend / sum", "")]


def classifier(folder: Path, classes: int = 10) -> Path:
    """12 numbers → dense → softmax, all int8."""
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", classes, 12)
    logits = net.quantised(net.add("Gemm", f"{x} {w} {net.bias('b', 'x', 'w', classes)}", "l", transB=1), -4.0, 4.0)
    net.quantised(net.add("Softmax", logits, "p", axis=-1), 0.0, 255 / 256, name="y")
    onnx.save(net.model((1, 12)), path := folder / f"classifier_{classes}.onnx")
    return path


def ops_of(model: ReferenceModel, entry: str) -> list[str]:
    return [node.op.name for node in model.program.entries[entry].nodes]


@pytest.mark.parametrize("grad", ["fp32", "int8"])
def test_cross_entropy_absorbs_it(grad: Gradients, tmp_path: Path) -> None:
    """Training reads the logits; the probabilities are made for the caller alone."""
    model = ReferenceModel(compile_model(classifier(tmp_path), Options(optimiser=Optimiser(0.01), grad=grad)).program)
    assert "softmax_q" in ops_of(model, "infer")
    assert "softmax_q" in ops_of(model, "evaluate")
    assert not {"softmax_q", "softmax", "softmax_grad"} & set(ops_of(model, "train"))
    x, label = f32(12), np.array([3], np.int32)
    before = float(model.infer(x)[3])
    losses = [model.train_step(x, label) for _ in range(20)]
    assert losses[-1] < 0.75 * losses[0]
    assert float(model.infer(x)[3]) > before


@pytest.mark.parametrize("board", [board.name for board in map(load_board, board_names()) if board.machine or board.is_host])
def test_every_board_gives_the_bits_of_the_reference(board: str, tmp_path: Path) -> None:
    tools = load_board(board)
    if missing := [names for names in (tools.toolchain.cc, tools.machine[:1]) if names and not any(map(shutil.which, names))]:
        pytest.skip(f"{board} needs {missing[0][0]}")
    program = compile_model(classifier(tmp_path), Options(board=board, grad="int8"))
    write(program, tmp_path / "project")
    model = ReferenceModel(program.program)
    with Project.open(tmp_path / "project").session(timeout=600) as session:
        for sample in f32(20, 12):
            np.testing.assert_array_equal(session.infer(sample), model.infer(sample))


def test_trains_through_it(tmp_path: Path) -> None:
    """Where the loss does not contain it."""
    model = ReferenceModel(compile_model(classifier(tmp_path), Options(loss="mse", optimiser=Optimiser(0.5))).program)
    assert {"softmax_q", "softmax_grad"} <= set(ops_of(model, "train"))
    x, target = f32(12), np.eye(10, dtype=np.float32)[3]
    losses = [model.train_step(x, target) for _ in range(40)]
    assert losses[-1] < 0.75 * losses[0]
