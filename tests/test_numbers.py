# SPDX-License-Identifier: Apache-2.0
"""Infinite, tiny and huge numbers of a model: they mean the same in C, or are refused in a sentence."""

from __future__ import annotations

import math
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compilers import installed
from frontend_models import check, f32, i64, infer, load, model_of, node, norm_arrays, oracles, scalar
from kernel_cases import WARNINGS
from quant_models import Qdq, assert_layers_agree, session_of

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model
from tinytrain.emit.project import array_text
from tinytrain.errors import ModelError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.words import literal

SMALLEST, SUBNORMAL, LARGEST = 2.0**-149, 1e-40, float(np.finfo(np.float32).max)
NUMBERS = [0.0, -0.0, 1.0, -2.5, SMALLEST, -SUBNORMAL, 2.0**-126, LARGEST, -LARGEST, math.inf, -math.inf]
NUMBERS += [struct.unpack("<f", struct.pack("<I", bits))[0] for bits in np.random.default_rng(0).integers(1, 0x7F800000, 200).tolist()]


@pytest.mark.parametrize("kind", ["gcc", "clang"])
def test_literals_are_exact_in_c(kind: str, tmp_path: Path) -> None:
    if (compiler := installed(kind)) is None:
        pytest.skip(f"{kind} is not installed")
    finite = np.array([x for x in NUMBERS if math.isfinite(x)], np.float32)
    (tmp_path / "l.c").write_text(
        "typedef unsigned int bits;\n"
        f"static const float a[] = {{ {', '.join(map(literal, NUMBERS))} }};\nstatic const float b[] = {{ {array_text(finite)} }};\n"
        f"static const bits c[] = {{ {', '.join(f'{int(x)}u' for x in np.array(NUMBERS, np.float32).view(np.uint32))} }};\n"
        f"static const bits d[] = {{ {', '.join(f'{int(x)}u' for x in finite.view(np.uint32))} }};\n"
        "static int same(const float *x, const bits *y, unsigned n)\n{\n"
        "    for (unsigned i = 0; i < n; ++i) {\n        union { float f; bits b; } u;\n        u.f = x[i];\n"
        "        if (u.b != y[i]) { return 0; }\n    }\n    return 1;\n}\n"
        "static float below(float x) { return x < " + literal(-math.inf) + " ? -" + literal(2.0) + " : x * " + literal(math.inf) + "; }\n"
        f"int main(void) {{ return same(a, c, {len(NUMBERS)}) && same(b, d, {finite.size}) && below(1.0f) > 1.0f ? 0 : 1; }}\n"
    )
    subprocess.run([compiler, *WARNINGS, "-ffreestanding", "-O1", str(tmp_path / "l.c"), "-o", str(tmp_path / "l")], check=True)
    assert subprocess.run([tmp_path / "l"], check=False).returncode == 0


@pytest.mark.parametrize("number", [math.nan, 1e39, -1e300])
def test_what_fp32_has_no_room_for_is_no_literal(number: float) -> None:
    with pytest.raises(AssertionError, match="no number of fp32"):
        literal(number)
    with pytest.raises(AssertionError, match="not finite"), np.errstate(over="ignore"):
        array_text(np.array([number]).astype(np.float32))


def compiled(folder: Path, model: onnx.ModelProto, **options: Any) -> str:
    onnx.save(model, folder / "m.onnx")
    return "".join(compile_model(folder / "m.onnx", Options(exact_seconds=0, **{"loss": "mse", **options})).files.values())


PAD = {"p": i64(0, 0, 1, 1, 0, 0, 1, 1), "low": scalar(-math.inf), "high": scalar(math.inf)}


def test_padding_that_no_maximum_takes(tmp_path: Path) -> None:
    nodes = [node("Pad", "x p low", "q"), node("MaxPool", "q", "y", kernel_shape=[3, 3], strides=[2, 2])]
    check(tmp_path, nodes, PAD, (1, 1, 5, 5))
    assert literal(-math.inf) in compiled(tmp_path, model_of(nodes, PAD, (1, 1, 5, 5)), loss=None)


@pytest.mark.parametrize("bounds", ["x low high", "x low", "x  high", "x high high", "x low low"])
def test_a_clip_whose_bounds_are_infinite(bounds: str, tmp_path: Path) -> None:
    clip = onnx.helper.make_node("Clip", bounds.split(" "), ["y"])
    sample = f32(1, 7)
    for arrays in (PAD, {**PAD, "low": scalar(-0.5)}):
        model = model_of([clip], arrays, (1, 7))
        _, imported = load(tmp_path, model)
        np.testing.assert_array_equal(infer(imported, sample), oracles(model, sample)[-1])
        compiled(tmp_path, model, loss=None)


def test_an_infinite_padding_is_no_integer_unless_it_is_quantised_next(tmp_path: Path) -> None:
    """Behind a Pad of integers an infinity would be the largest of them: 2, and not what no other number reaches."""
    for op, value, attributes in (
        ("GlobalMaxPool", "high", {}), ("AveragePool", "low", {"kernel_shape": [2, 2]}), ("MaxPool", "high", {"kernel_shape": [2, 2]}),
        ("MaxPool", "low", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}), ("MaxPool", "low", {"kernel_shape": [1, 2]}),
        ("Identity", "low", {}),
    ):
        net = Qdq()
        net.add(op, net.add("Pad", f"{net.quantised('x')} p {value}", "padded"), "y", **attributes)
        net.arrays |= PAD
        model, sample = net.model((1, 2, 4, 4)), f32(1, 2, 4, 4)
        _, imported = load(tmp_path, model)
        (want,) = session_of(model).run(None, {"x": sample})
        want = np.where(want < -3e38, -np.inf, want)      # onnxruntime takes the least number of fp32 for the least of nothing
        assert np.isinf(want).any()
        np.testing.assert_allclose(infer(imported, sample), want, rtol=1e-5)


def test_an_infinite_padding_before_a_quantised_maximum(tmp_path: Path) -> None:
    """All of it is computed with integers."""
    net = Qdq()
    net.quantised(net.add("MaxPool", net.add("Pad", f"{net.quantised('x')} p low", "padded"), "m", kernel_shape=[2, 2]), -1, 3, name="y")
    net.arrays |= PAD
    prepared, imported = net.load(tmp_path, (1, 2, 4, 4))
    assert assert_layers_agree(prepared, imported, f32(1, 2, 4, 4)) == 2
    assert not imported.float_islands


W = {"w": f32(3, 2), "c": f32(2), "inf": scalar(math.inf), "minus": scalar(-math.inf)}
REFUSED = {
    "alpha inf": ([node("Gemm", "x w c", "y", alpha=math.inf)], "Gemm_0 (Gemm) in {path}: its alpha is inf, expected a finite number."),
    "alpha nan": ([node("Gemm", "x w c", "y", alpha=math.nan)], "Gemm_0 (Gemm) in {path}: its alpha is nan, expected a finite number."),
    "beta -inf": ([node("Gemm", "x w c", "y", beta=-math.inf)], "Gemm_0 (Gemm) in {path}: its beta is -inf, expected a finite number."),
    "leaky": ([node("LeakyRelu", alpha=math.inf)], "its alpha is inf, expected a finite number."),
    "leaky nan": ([node("LeakyRelu", alpha=math.nan)], "its alpha is nan, expected a finite number."),
    "add": ([node("Add", "x inf", "y")], "Add_0 (Add) in {path}: its operand inf holds inf, expected finite numbers."),
    "sub": ([node("Sub", "minus x", "y")], "Sub_0 (Sub) in {path}: its operand minus holds -inf, expected finite numbers."),
    "mul": ([node("Mul", "x minus", "y")], "Mul_0 (Mul) in {path}: its operand minus holds -inf, expected finite numbers."),
    "two bounds": ([node("Clip", "x c", "y")], "its lower bound c has the shape (2,), expected one number."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_infinite_factors_are_refused(case: str, tmp_path: Path) -> None:
    nodes, text = REFUSED[case]
    with pytest.raises(ModelError) as error:
        compiled(tmp_path, model_of(nodes, W, (1, 3)))
    assert text.format(path=tmp_path / "m.onnx") in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize("epsilon", [math.inf, math.nan])
@pytest.mark.parametrize("folded", [True, False])
def test_an_infinite_epsilon(epsilon: float, folded: bool, tmp_path: Path) -> None:
    """Folded, it would make all weights zero."""
    nodes = [node("Conv", "x w", "c"), node("BatchNormalization", "c g b m v", "y", name="bn", epsilon=epsilon)]
    with pytest.raises(ModelError, match=rf"bn \(BatchNormalization\).* its epsilon is {epsilon:g}, expected a finite number"):
        load(tmp_path, model_of(nodes, {"w": f32(4, 2, 1, 1), **norm_arrays(4)}, (1, 2, 5, 5)), fold_batchnorm=folded)


@pytest.mark.parametrize("option", [{"learning_rate": 1e39}, {"weight_decay": 1e39}, {"bias_factor": 1e300}])
def test_a_rate_beyond_fp32(option: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\(sgd\): its .* lies beyond 3\.4e\+38; expected numbers that fp32 has room for\."):
        compiled(tmp_path, zoo.model("mlp"), loss="ce", optimiser=Optimiser(**option))


def test_scales_whose_squares_leave_fp32(tmp_path: Path) -> None:
    """Inference is right, and so is training without the scaling."""
    net = Qdq()
    x, w = net.quantised("x"), net.weight("w", 5, 7)
    net.quantised(net.add("Gemm", f"{x} {w} {net.bias('b', 'x', 'w', 5)}", "z", transB=1), name="y")
    net.arrays |= {name: (net.arrays[name] * np.float32(1e-18)).astype(np.float32) for name in ("w_s", "b_s", "z_s")}
    with pytest.raises(ModelError, match=r"scale|lies beyond") as error:
        compiled(tmp_path, net.model((1, 7)))
    assert "--no-qas" in (error.value.hint or "")
    for options in ({"qas": False}, {"loss": None}):
        assert "inff" not in compiled(tmp_path, net.model((1, 7)), **options)


def test_a_scale_whose_inverse_leaves_fp32(tmp_path: Path) -> None:
    """The gradient of a QuantizeLinear is divided by its scale."""
    net = Qdq()
    net.nodes.append(node("MatMul", "x v", "reals"))
    net.quantised("reals", name="y")
    net.arrays |= {"v": f32(3, 4), "reals_s": np.array(SUBNORMAL, np.float32)}
    with pytest.raises(ModelError, match=r"\(mul\): its .*inverse_scale lies beyond 3\.4e\+38"):
        compiled(tmp_path, net.model((1, 3)))
    compiled(tmp_path, net.model((1, 3)), loss=None)
