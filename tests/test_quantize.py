# SPDX-License-Identifier: Apache-2.0
"""Integers that stand for reals: the rounding rules bit for bit in NumPy and C, gradients at bounds, refused scales."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytrain.gradient.autodiff import gradients
from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Want
from tinytrain.ir.types import F32, S8, S32, Array, DType, Quant, Role, TensorType
from tinytrain.ops.activation import MaskGrad
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.lookup import Lookup
from tinytrain.ops.loss import SoftmaxCrossEntropy
from tinytrain.ops.optimiser_int import Rounding, rounded
from tinytrain.ops.pool import AveragePool, GlobalAveragePool
from tinytrain.ops.quant_arith import AddQ, MulQ
from tinytrain.ops.quantize import (
    ClampGrad,
    Dequantise,
    Quantise,
    Requantise,
    clamped,
    dequantised,
    fixed_point,
    fixed_points,
    requantised,
    rescaled,
)
from tinytrain.ops.shape import Concat, Reshape, Slice, Transpose
from tinytrain.ops.shape import Pad as Surround
from tinytrain.ops.windowed import Pad
from tinytrain.passes.fuse_epilogues import fuse_epilogues
from tinytrain.passes.pack_masks import pack_masks
from tinytrain.paths import data_dir
from tinytrain.verify.reference import run

C_SOURCE = r"""
#include "tt_requantise.h"
#include "tt_update.h"
#define EACH for (int32_t i = 0; i < n; ++i)
void requantise(int32_t n, const int32_t *acc, const int32_t *m, const int32_t *s, int32_t z, int32_t low, int32_t high, int32_t *y)
{ EACH y[i] = tt_requantise(acc[i], m[i], s[i], z, low, high); }
void quantise(int32_t n, const float *x, const float *scale, int32_t z, int32_t low, int32_t high, int32_t *y)
{ EACH y[i] = tt_quantise(x[i], scale[i], z, low, high); }
void stochastic(int32_t n, const float *d, float limit, const uint32_t *word, int32_t *y)
{ EACH y[i] = tt_round_stochastic(d[i], limit, word[i]); }
void nearest(int32_t n, const float *d, float limit, const uint32_t *word, int32_t *y)
{ (void)word; EACH y[i] = tt_round_nearest(d[i], limit); }
"""


@pytest.fixture(scope="module")
def c_call(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Array]:
    """The functions of the headers over arrays, built so that undefined behaviour ends the process."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("rounding")
    (folder / "rounding.c").write_text(C_SOURCE)
    flags = ["-std=c99", "-O2", "-ffp-contract=off", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-fPIC", "-shared"]
    library = folder / "rounding.so"
    subprocess.run(["gcc", *flags, f"-I{data_dir('runtime_c')}", folder / "rounding.c", "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))

    def call(name: str, *arguments: Any) -> Array:
        arrays = [np.ascontiguousarray(a) for a in arguments if isinstance(a, np.ndarray)]
        made = np.zeros(arrays[0].size, np.int32)
        kinds = {float: ctypes.c_float, int: ctypes.c_int32}
        given = [a.ctypes.data_as(ctypes.c_void_p) if isinstance(a, np.ndarray) else kinds[type(a)](a) for a in arguments]
        getattr(loaded, name)(ctypes.c_int32(made.size), *given, made.ctypes.data_as(ctypes.c_void_p))
        return made

    return call


# ---------------------------------------------------------------------------------------------------------------- rounding


@given(st.floats(2.0**-31, 2.0**27))
def test_fixed_point_is_as_near_as_31_bits_allow(real: float) -> None:
    m, s = fixed_point(real)
    assert 2**30 <= m < 2**31 and 3 <= s <= 62
    assert abs(Fraction(m, 2**s) / Fraction(real) - 1) <= Fraction(1, 2**31)


def test_fixed_point_at_its_ends() -> None:
    assert fixed_point(0.5) == (2**30, 31)
    assert fixed_point(1 - 2.0**-40) == (2**30, 30), "rounded up to one"
    assert fixed_point(2.0**-32) == (2**30, 62)
    assert fixed_point(2.0**-40) == (2**22, 62), "smaller ones keep the shift"
    assert fixed_point(1e-300) == (0, 62)
    assert fixed_point(2.0**27) == (2**30, 3)


@pytest.mark.parametrize("scale", [0.0, -0.1, math.nan, math.inf, -math.inf])
def test_scales_that_no_real_number_has_are_refused(scale: float) -> None:
    for make in (
        lambda: fixed_point(scale),
        lambda: Quantise(scale).infer(TensorType((3,))),
        lambda: Requantise(scale).infer(TensorType((3,), S32), *[TensorType((1,), S32)] * 2),
        lambda: MulQ(1.0, scales=(scale, 1.0)).infer(*[TensorType((3,), S8)] * 2),
        lambda: Lookup(1.0, scale_in=scale).infer(TensorType((3,), S8), TensorType((256,), S8)),
    ):
        with pytest.raises(ValueError, match=r"a scale of .* positive finite number"):
            make()


@pytest.mark.parametrize("scale", [0.0, math.nan, math.inf, -math.inf])
def test_a_sum_takes_scales_of_either_sign(scale: float) -> None:
    """One below 0 is that of a difference."""
    kinds = [TensorType((3,), S8)] * 2
    assert AddQ(1.0, scales=(-0.1, 1.0)).infer(*kinds)[0].shape == (3,)
    with pytest.raises(ValueError, match=r"a scale of .* positive finite number"):
        AddQ(1.0, scales=(scale, 1.0)).infer(*kinds)


def test_a_multiplier_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="less than 2\\^28"):
        fixed_point(2.0**28)


def test_a_half_goes_up() -> None:
    x = np.array([-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5])
    m, s = fixed_points([0.5])
    assert rescaled(x, m, s).tolist() == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3]


def test_requantise_is_the_same_in_c(c_call: Callable[..., Array]) -> None:
    rng = np.random.default_rng(1)
    ends = np.array([-(2**31), -(2**31) + 1, -(2**30), -129, -128, -2, -1, 0, 1, 2, 127, 128, 2**30, 2**31 - 2, 2**31 - 1])
    factors = np.array([0, 1, 3, 2**22, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 1])
    acc, m, s = (grid.ravel().astype(np.int32) for grid in np.meshgrid(ends, factors, np.arange(1, 63)))
    # and where the result lies within int8, half of them exactly between two numbers
    shift = rng.integers(31, 63, 20000)
    some = rng.integers(-300, 300, 20000).astype(np.float64)
    factor = rng.integers(2**30, 2**31, 20000)
    near = np.clip(np.rint((some + 0.5) * np.exp2(shift) / factor), -(2**31), 2**31 - 1)
    acc, m, s = np.append(acc, near), np.append(m, factor), np.append(s, shift)
    acc, m, s = np.append(acc, np.arange(-600, 600)), np.append(m, np.full(1200, 2**30)), np.append(s, np.full(1200, 32))
    for z, low, high in ((0, -128, 127), (-128, -128, 127), (127, -128, 127), (3, 3, 90)):
        want = clamped(rescaled(acc, m, s), Requantise(1.0, z, low, high))
        got = c_call("requantise", acc.astype(np.int32), m.astype(np.int32), s.astype(np.int32), z, low, high)
        assert np.array_equal(got, want)


def test_quantise_is_the_same_in_c_and_as_onnx_defines_it(c_call: Callable[..., Array]) -> None:
    rng = np.random.default_rng(2)
    special = [0.0, -0.0, math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-45, 0.5, -0.5, 1.5, 2.5, -2.5, 126.5, 127.5, 1e9, -1e9]
    x = np.concatenate([special, rng.normal(size=5000) * 50, np.arange(-600, 600) * 0.25]).astype(np.float32)
    for scale in (1.0, 0.5, 0.1, 1e-30, 3e30):
        for z, low, high in ((0, -128, 127), (-128, -128, 127), (127, -128, 127), (3, 3, 90)):
            (want,) = Quantise(scale, z, low, high).reference(x)
            got = c_call("quantise", x, np.full(x.size, scale, np.float32), z, low, high)
            assert np.array_equal(got, want)
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    assert Quantise(1.0).reference(halves)[0].tolist() == [0, 2, 2, 0, -2]
    assert Quantise(1.0, 7).reference(np.array([math.nan, math.inf, -math.inf], np.float32))[0].tolist() == [7, 127, -128]


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_steps_are_the_same_in_c(rounding: Rounding, c_call: Callable[..., Array]) -> None:
    rng = np.random.default_rng(3)
    special = [0.0, -0.0, math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-45, 2.0**-32, 2.0**-33, 0.5, -0.5, 1.5, 8388608.5, 16777217.0]
    d = np.concatenate([special, rng.normal(size=5000) * 3, rng.normal(size=5000) * 1e-7, rng.normal(size=5000) * 1e9]).astype(np.float32)
    words = rng.integers(0, 2**32, d.size).astype(np.uint32)
    words[: len(special)] = 0
    for limit in (65536.0, 2147483520.0):
        assert np.array_equal(c_call(rounding, d, limit, words), rounded(d, rounding, limit, words))


def test_stochastic_steps_are_exact_in_the_mean() -> None:
    """Over all random words, |d| in units of 2^-32 of them go away from zero."""
    for d in (0.25, 0.5, 2.0**-20, 1 - 2.0**-20):
        threshold = int(d * 2**32)
        words = np.array([0, threshold - 1, threshold, 2**32 - 1]).astype(np.uint32)
        steps = np.full(4, d, np.float32)
        assert rounded(steps, "stochastic", 256.0, words).tolist() == [1, 1, 0, 0]
        assert rounded(-steps, "stochastic", 256.0, words).tolist() == [-1, -1, 0, 0]


# ---------------------------------------------------------------------------------------------------------------- int8 graphs


def stored(shape: tuple[int, ...], scale: float = 0.1, zero_point: int = 0, dtype: DType = S8) -> TensorType:
    return TensorType(shape, dtype, Quant((scale,), zero_point))


def test_a_gradient_passes_strictly_between_the_bounds() -> None:
    y = np.array([-128, -127, -5, -4, 0, 126, 127], np.int8)
    dy = np.ones(7, np.float32)
    assert ClampGrad().reference(dy, y)[0].tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert ClampGrad(-5, 127).reference(dy, y)[0].tolist() == [0, 0, 0, 1, 1, 1, 0], "the zero of a ReLU passes nothing"


def test_a_mask_of_bits_says_the_same() -> None:
    y = np.random.default_rng(0).integers(-128, 128, (5, 7)).astype(np.int8)
    dy = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    grad = ClampGrad(-20, 90)
    masks = grad.as_mask()
    assert isinstance(masks, tuple) and isinstance(masks[1], MaskGrad)
    (bits,) = masks[0].reference(y)
    assert bits.nbytes == 5 and np.array_equal(masks[1].reference(dy, bits)[0], grad.reference(dy, y)[0])


def test_a_saved_activation_becomes_bits_where_only_its_bounds_matter() -> None:
    """relu (in the bounds) -> global average -> loss: of the int8 map one bit an element is kept for the backward pass."""
    g = Builder("model")
    x = g.input("x", (4, 4, 3), S8, Quant((0.1,), 0))
    w = g.value("w", stored((3, 1, 1, 3)), Role.PARAM, np.ones((3, 1, 1, 3), np.int8))
    target = g.input("target", (1,), S32)
    y = requantised(g, g.emit(Conv2d(), x, w), 0.1, -128)
    logits = dequantised(g, g.emit(GlobalAveragePool(-128), y))
    loss = g.emit(SoftmaxCrossEntropy(), logits, target)
    found = gradients(g, list(g.nodes), loss, {w: Want()})
    packed = pack_masks(g.graph([loss, found[w]]))
    names = [node.op.name for node in packed.nodes]
    assert "clamp_bits" in names and "mask_grad" in names and "clamp_grad" not in names
    arrays: list[Array] = [np.random.default_rng(0).integers(-128, 128, (4, 4, 3)).astype(np.int8), np.array([1], np.int32)]
    before, after = run(g.graph([loss, found[w]]), arrays).outputs, run(packed, arrays).outputs
    assert np.any(before[1]) and np.array_equal(before[1], after[1])


def test_values_keep_their_meaning_through_scales() -> None:
    g = Builder("scales")
    x = g.input("x", (4, 3), S32, Quant((0.5, 0.25, 0.125), 0, 1))
    fine = requantised(g, x, 1.0, -5)
    coarse = requantised(g, fine, 2.0, 3)
    out = dequantised(g, coarse)
    (got,) = run(g.graph([out]), [np.full((4, 3), 160, np.int32)]).outputs
    assert got.tolist() == [[80.0, 40.0, 20.0]] * 4
    assert all(v.role is Role.CONST for n in g.nodes for v in n.inputs[1:])


def test_requantising_runs_in_the_epilogue() -> None:
    g = Builder("pool")
    x = g.input("x", (4, 4, 3), S8, Quant((0.1,), -7))
    y = requantised(g, g.emit(GlobalAveragePool(-7), x), 0.1, -7)
    fused = fuse_epilogues(g.graph([y]))
    assert len(fused.nodes) == 1
    a = np.random.default_rng(0).integers(-128, 128, (4, 4, 3)).astype(np.int8)
    want = np.floor(a.astype(np.float64).mean(axis=(0, 1)) + 0.5)
    assert np.array_equal(run(fused, [a]).outputs[0], want)


def test_an_average_near_the_edge_counts_what_is_there() -> None:
    op = AveragePool((3, 3), (1, 1), Pad(1, 1, 1, 1), zero_point=-128)
    kind = stored((4, 5, 2), 0.5, -128)
    (y,) = op.infer(kind)
    assert y.dtype is S32 and y.quant == Quant((0.5 / 36,)), "windows of 4, 6 and 9"
    q = np.random.default_rng(0).integers(-128, 128, (4, 5, 2)).astype(np.int8)
    (real,) = AveragePool((3, 3), (1, 1), Pad(1, 1, 1, 1)).reference((q + 128.0) * 0.5)
    assert np.allclose(op.reference(q)[0] * y.quant.scale[0], real)


def test_sums_and_products_are_within_half_a_unit() -> None:
    """Of the real sum, but for what 20 bits of a multiplier cannot say."""
    rng = np.random.default_rng(4)
    for _ in range(200):
        scales = (float(10 ** rng.uniform(-3, 1)), float(10 ** rng.uniform(-3, 1)))
        zeros = (int(rng.integers(-128, 128)), int(rng.integers(-128, 128)))
        a, b = (rng.integers(-128, 128, 300).astype(np.int8) for _ in range(2))
        ra, rb = ((q.astype(np.float64) - z) * s for q, s, z in zip((a, b), scales, zeros, strict=True))
        for kind, real in ((AddQ, ra + rb), (MulQ, ra * rb)):
            scale = float(np.abs(real).max() / 100)
            (y,) = kind(scale, 5, scales=scales, zeros=zeros).reference(a, b)
            want = np.clip(real / scale + 5, -128, 127)
            assert np.abs(y - want).max() <= 0.501


def test_operands_too_coarse_for_their_sum_are_refused() -> None:
    with pytest.raises(ValueError, match="too coarse"):
        AddQ(1e-9, scales=(1.0, 1.0)).infer(stored((3,), 1.0), stored((3,), 1.0))


def test_stored_numbers_that_mean_different_things_are_not_mixed() -> None:
    rows = TensorType((3, 4), S8, Quant((0.1, 0.2, 0.3), 0, 0))
    for op, kinds, why in (
        (Concat(0, 2), (stored((2,), 0.1), stored((2,), 0.2)), "different scales"),
        (Reshape((12,)), (rows,), "scale for each index"),
        (Surround((1, 0), (0, 0)), (rows,), "scale of its own"),
        (Surround((1,), (0,), 200.0), (stored((3,)),), "no number of type s8"),
        (Dequantise(3), (stored((3,)), TensorType((1,))), "the op subtracts 3"),
        (Requantise(zero_in=3), (stored((3,)), TensorType((1,), S32), TensorType((1,), S32)), "the op subtracts 3"),
        (Requantise(1.0, 200), (stored((3,)), TensorType((1,), S32), TensorType((1,), S32)), "zero point of 200"),
        (Requantise(1.0, 0, 5, 5), (stored((3,)), TensorType((1,), S32), TensorType((1,), S32)), "must ascend"),
        (GlobalAveragePool(), (stored((2, 2, 3)),), "must say the zero point"),
        (AddQ(), (stored((3,), 0.3), stored((3,), 1.0)), "taken for"),
    ):
        with pytest.raises(ValueError, match=why):
            op.infer(*kinds)
    assert Transpose((1, 0)).infer(rows)[0].quant == Quant((0.1, 0.2, 0.3), 0, 1)
    assert Slice(0, 1, 3).infer(rows)[0].quant == Quant((0.2, 0.3), 0, 0)
    assert Surround((1,), (0,), -128).reference(np.zeros(2, np.int8))[0].tolist() == [-128, 0, 0]
    assert Dequantise().infer(stored((3,)), TensorType((1,)))[0] == TensorType((3,), F32)
