# SPDX-License-Identifier: Apache-2.0
"""Normalisation of int8 rows: that of onnxruntime within one step, the same bits on the twin, without floats, and gradients pass it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import RNG, f32, infer, op_names
from oracle_session import session_of
from quant_models import SHARE, Qdq

from tinytrain.compiler import Options, compile_model
from tinytrain.emit.kernels import KernelCall, render
from tinytrain.errors import ModelError
from tinytrain.ir.types import S8, S32, TensorType
from tinytrain.ops.normalise_q import LONGEST, NormaliseQ


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("length", [1, 2, 5, 64, 1000, LONGEST])
def test_reference_is_the_rounded_normalisation(length: int, centred: bool) -> None:
    """Also of rows without spread, of ones that fill int8, and where epsilon is most of the variance."""
    for scale_in, epsilon in ((0.02, 1e-5), (1e-3, 1e-3), (4.0, 0.0)):
        op = NormaliseQ(4 / 127, 5, scale_in=scale_in, zero_in=0 if centred else -7, epsilon=epsilon, centred=centred)
        gamma, beta = RNG.normal(1, 0.3, length), RNG.normal(0, 0.5, length)
        gain, offset, shift = op.affine(gamma, beta)
        op = NormaliseQ(op.scale, 5, shift=shift, scale_in=scale_in, zero_in=op.zero_in, epsilon=epsilon, centred=centred)
        ends = np.where(np.arange(length) % 2, 127, -128)
        numbers = *RNG.integers(-128, 128, (3, length)), *RNG.integers(-3, 3, (2, length)), np.full(length, 99), ends
        rows = np.stack(numbers).astype(np.int8)
        op.infer(TensorType(rows.shape, S8), *[TensorType((length,), S32)] * 2)
        (got,) = op.reference(rows, gain, offset)
        x = scale_in * (rows.astype(np.float64) - op.zero_in)
        left = x - x.mean(axis=-1, keepdims=True) if centred else x
        unit = left / np.sqrt(np.maximum((left**2).mean(axis=-1, keepdims=True) + epsilon, 1e-30))
        exact = (unit * gamma + beta) / op.scale + 5
        assert np.abs(got - np.clip(exact, -128, 127)).max() <= 0.52


@pytest.mark.parametrize("uint8", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize(("op", "opset"), [("LayerNormalization", 17), ("RMSNormalization", 23)])
@pytest.mark.parametrize(("shape", "axis"), [((1, 6, 32), -1), ((1, 6, 32), 1), ((1, 7), -1), ((1, 3, 4, 5), 1), ((1, 3, 4, 5), -1)])
def test_like_onnxruntime(shape: tuple[int, ...], axis: int, op: str, opset: int, uint8: bool, tmp_path: Path) -> None:
    if op == "RMSNormalization":
        pytest.importorskip("onnxruntime", "1.23")
    net = Qdq(uint8)
    over = shape[axis:]
    net.arrays |= {"gamma": 1 + 0.3 * f32(*over), "beta": f32(*over)}
    operands = "gamma beta" if op == "LayerNormalization" else "gamma"
    x = net.quantised("x", -1.0, 3.0)
    if len(shape) == 4:
        x = net.add("MaxPool", x, "m", kernel_shape=[1, 1])
    net.quantised(net.add(op, f"{x} {operands}", "l", axis=axis), -4.0, 4.0, name="y")
    prepared, imported = net.load(tmp_path, shape, opset)
    assert "normalise_q" in op_names(imported)
    assert not imported.float_islands
    sample = 1 + f32(*shape)
    (want,) = session_of(prepared.model).run(None, {"x": sample})
    steps = np.abs(infer(imported, sample) - want) / net.arrays["l_s"]
    assert (steps < 1.5).mean() >= SHARE
    assert (steps < 0.5).mean() >= 0.97


def test_an_epsilon_beyond_the_scale_is_refused_by_name(tmp_path: Path) -> None:
    net = Qdq()
    net.arrays |= {"gamma": f32(8)}
    net.quantised(net.add("LayerNormalization", f"{net.quantised('x', -1e-12, 1e-12)} gamma", "l", epsilon=1.0), name="y")
    with pytest.raises(ModelError, match=r"LayerNormalization_l .* an epsilon of 1.0 for numbers of scale"):
        net.load(tmp_path, (1, 8), 17)


def test_scales_that_do_not_fit_are_refused() -> None:
    op = NormaliseQ(1e-9)
    with pytest.raises(ValueError, match=r"a scale of 1e-09 for numbers of 2: a larger one"):
        op.affine(np.array([2.0]), np.array([0.0]))
    with pytest.raises(ValueError, match=r"an epsilon of 1.0 for numbers of scale 1e-12: less"):
        NormaliseQ(1.0, scale_in=1e-12, epsilon=1.0).infer(TensorType((3,), S8), *[TensorType((3,), S32)] * 2)


def test_kernel_computes_without_floats() -> None:
    """And without dividing 64 bits, which a linker without libgcc does not find."""
    kind, row = TensorType((2, 10), S8), TensorType((10,), S32)
    text = render(KernelCall(NormaliseQ(2**-5), (kind, row, row), (kind,), NormaliseQ.kernels[0]), "normal").split("{", 1)[1]
    assert not [word for word in ("float", "double", " / ", " % ") if word in text]


def test_it_learns_as_the_reference(tmp_path: Path) -> None:
    """What is in front of it is trained through it."""
    net = Qdq()
    net.arrays |= {"gamma": 1 + 0.3 * f32(6), "beta": f32(6)}
    h = net.quantised(net.add("Gemm", f"{net.quantised('x')} {net.weight('w', 6, 4)} {net.bias('b', 'x', 'w', 6)}", "h0", transB=1))
    normal = net.quantised(net.add("LayerNormalization", f"{h} gamma beta", "n"), -4.0, 4.0)
    net.quantised(net.add("Gemm", f"{normal} {net.weight('v', 3, 6)} {net.bias('c', 'n', 'v', 3)}", "o", transB=1), name="y")
    path = tmp_path / "m.onnx"
    path.write_bytes(net.model((1, 4), opset=17).SerializeToString())
    compiled = compile_model(path, Options())
    names = {n.op.name for n in compiled.program.entries["train"].nodes}
    assert {"normalise_q", "normalise_grad"} <= names
    assert_learns_as_reference(Library(compiled, tmp_path, "-O1"), steps=3)
