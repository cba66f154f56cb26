# SPDX-License-Identifier: Apache-2.0
"""Weights of fewer than eight bits (stored integers, or QuantizeLinear, and then a Clip): training leaves them within their bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from ctypes_model import Library
from frontend_models import f32, node
from onnx import TensorProto, numpy_helper
from quant_models import Qdq, assert_layers_agree

from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.errors import ModelError
from tinytrain.frontend.export import export
from tinytrain.frontend.new_head import NewHead
from tinytrain.frontend.prepare import prepare
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Role
from tinytrain.onnx_graph import stored_array, stored_tensor
from tinytrain.ops.four_bits import UnpackFourBits, packed
from tinytrain.ops.optimiser_int import Rounding
from tinytrain.passes.pack_four_bits import a_byte_each
from tinytrain.verify.reference import ReferenceModel

# type, bounds and zero point of what is stored
FORMS: dict[str, tuple[type[np.generic], int, int, int]] = {
    "int4": (np.int8, -8, 7, 0), "narrow int4": (np.int8, -7, 7, 0), "uint4": (np.uint8, 0, 15, 8), "int2": (np.int8, -2, 1, 0),
}


def few_bits(form: str, stored: bool) -> Qdq:
    """x by a weight of few bits, as integers or as reals that are quantised, behind a Clip."""
    dtype, low, high, zero = FORMS[form]
    net = Qdq()
    x = net.quantised("x", -4, 4)
    net.arrays |= {"s": np.float32(0.1), "zero": np.array(zero, dtype), "low": np.array(low, dtype), "high": np.array(high, dtype)}
    if stored:
        net.arrays["w"] = np.random.default_rng(1).integers(low, high + 1, (4, 6)).astype(dtype)
        net.nodes.append(node("Clip", "w low high", "c"))
    else:
        net.arrays["reals"] = f32(4, 6) * np.float32(0.3)
        net.nodes += [node("QuantizeLinear", "reals s zero", "w"), node("Clip", "w low high", "c")]
    net.nodes.append(node("DequantizeLinear", "c s zero", "d"))
    net.quantised(net.add("Gemm", f"{x} d", "z", transB=1), -4, 4, name="y")
    return net


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_they_compute_what_onnxruntime_does(form: str, stored: bool, tmp_path: Path) -> None:
    prepared, imported = few_bits(form, stored).load(tmp_path, (1, 6), 21)
    assert assert_layers_agree(prepared, imported, f32(1, 6)) == 2
    assert not imported.float_islands


def trained(path: Path, **options: Any) -> tuple[onnx.ModelProto, str, np.ndarray, str]:
    """The prepared model, the name and the integers of the weight after some violent steps, and the generated kernels."""
    made = compile_model(path, Options(exact_seconds=0, **{"loss": "mse", **options}))
    model, rng = ReferenceModel(made.program), np.random.default_rng(2)
    for step in range(8):
        target = np.array([step % 4], np.int32) if "loss" in options else 9 * rng.normal(size=(4,)).astype(np.float32)
        model.train_step(rng.normal(size=(6,)).astype(np.float32), target)
    (weight,) = made.program.stored(Role.PARAM)
    assert weight.source is not None
    array = weight.source.to_onnx(model.state[weight])
    return made.prepared.model, weight.source.initializer, array, made.files[f"{made.program.name}_kernels.h"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rounding", get_args(Rounding))
def test_training_keeps_their_bits(form: str, rounding: Rounding, tmp_path: Path) -> None:
    _, low, high, _ = FORMS[form]
    onnx.save(few_bits(form, stored=True).model((1, 6), 21), tmp_path / "m.onnx")
    prepared, name, array, _ = trained(tmp_path / "m.onnx", optimiser=Optimiser(1.0, rounding=rounding))
    assert (array.min(), array.max()) == (low, high)
    learned = {t.name: numpy_helper.to_array(t) for t in export(prepared, {name: array}, "here").graph.initializer}
    np.testing.assert_array_equal(learned[name], array)


def test_training_with_integer_gradients_keeps_their_bits(tmp_path: Path) -> None:
    onnx.save(few_bits("int4", stored=True).model((1, 6), 21), tmp_path / "m.onnx")
    _, _, array, kernels = trained(tmp_path / "m.onnx", optimiser=Optimiser(9.0), grad="int8", loss="ce")
    assert (array.min(), array.max()) == (-8, 7)
    assert ", -8, 7)" in kernels


def test_a_step_of_nothing_moves_nothing(tmp_path: Path) -> None:
    """-8 is a number of four bits, though no weight of eight bits is trained to -128."""
    onnx.save(few_bits("int4", stored=True).model((1, 6), 21), tmp_path / "m.onnx")
    _, name, array, _ = trained(tmp_path / "m.onnx", optimiser=Optimiser(0.0))
    assert array.min() == -8
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    np.testing.assert_array_equal(array, before["w"])
    assert name == "c"


def test_a_clip_to_eight_bits_changes_nothing(tmp_path: Path) -> None:
    net = few_bits("int4", stored=True)
    net.arrays |= {"low": np.int8(-128), "high": np.int8(127)}
    onnx.save(net.model((1, 6), 21), tmp_path / "m.onnx")
    *_, kernels = trained(tmp_path / "m.onnx")
    assert "tt_within" not in kernels


KINDS = {"int4": (TensorProto.INT4, 0), "uint4": (TensorProto.UINT4, 8)}


def four_bits(kind: str, hidden: int = 40) -> onnx.ModelProto:
    """x by two weights of four bits, as ONNX stores them since opset 21."""
    dtype, zero = KINDS[kind]
    net, rng = Qdq(), np.random.default_rng(3)
    y = net.quantised("x", -4, 4)
    for i, shape in enumerate([(hidden, 16), (4, hidden)]):
        w = net.weight(f"w{i}", *shape)
        net.arrays[f"{w}_s"] = rng.uniform(0.5, 1, shape[0]).astype(np.float32) / np.float32(8 * shape[1] ** 0.5)
        net.arrays[f"{w}_q"] = rng.integers(zero - 8, zero + 8, shape).astype(np.int8)
        net.arrays[f"{w}_z"] = np.full(shape[0], zero, np.int8)
        z = net.add("Gemm", f"{y} {w}", f"z{i}", transB=1)
        y = net.quantised(z, -8, 8, name=f"y{i}" if i == 0 else "y")
    model = net.model((1, 16), 21)
    model.ir_version = 10
    for tensor in model.graph.initializer:
        if tensor.name[0] == "w" and tensor.name[-1] in "qz":
            tensor.CopyFrom(stored_tensor(tensor.name, numpy_helper.to_array(tensor), dtype))
    onnx.checker.check_model(model)
    return model


def compiled(folder: Path, kind: str, **options: Any) -> Compiled:
    onnx.save(four_bits(kind), folder / "m.onnx")
    return compile_model(folder / "m.onnx", Options(exact_seconds=0, scheme="last:1", grad="int8", optimiser=Optimiser(0.5), **options))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_ones_lie_in_flash_two_a_byte(kind: str, tmp_path: Path) -> None:
    """But for speed where that is the peak of the arena.

    The device learns as the reference does, which reads numbers that nobody packed; what it learned is of the type it had."""
    program = compiled(tmp_path, kind)
    (small,) = [v for v in program.program.stored(Role.CONST) if v.name.endswith("_packed")]
    assert small.type.nbytes == 40 * 16 // 2
    plain, device = ReferenceModel(compiled(tmp_path, kind, optimise="speed").program), Library(program, tmp_path).instance()
    assert not any(v.name.endswith("_packed") for v in plain.program.stored(Role.CONST))
    assert a_byte_each(program.program) == {"w1_q": "trained"}
    assert a_byte_each(plain.program) == {"w0_q": "unpacked, the peak of the arena", "w1_q": "trained"}
    rng = np.random.default_rng(2)
    for step in range(8):
        x, label = rng.normal(size=16).astype(np.float32), np.array([step % 4], np.int32)
        assert device.train_step(x, label) == plain.train_step(x, label)
    (weight,) = (v for v in program.program.stored(Role.PARAM) if v.source and v.source.initializer == "w1_q")
    assert weight.source is not None
    learned = weight.source.to_onnx(device.stored()[weight.name])
    written = {t.name: t for t in export(program.prepared.model, {"w1_q": learned}, "here").graph.initializer}
    assert written["w1_q"].data_type == KINDS[kind][0]
    np.testing.assert_array_equal(stored_array(written["w1_q"]), learned)
    before = next(t for t in four_bits(kind).graph.initializer if t.name == "w1_q")
    assert (learned != stored_array(before)).any()


def test_packing_is_undone() -> None:
    for count in (1, 16, 17):
        w = np.random.default_rng(count).integers(-8, 8, count).astype(np.int8)
        (back,) = UnpackFourBits((count,)).reference(packed(w))
        np.testing.assert_array_equal(back, w)


def test_activations_of_four_bits_are_refused(tmp_path: Path) -> None:
    model = four_bits("int4")
    zero = next(t for t in model.graph.initializer if t.name == "x_z")
    zero.CopyFrom(stored_tensor("x_z", np.zeros((), np.int8), TensorProto.INT4))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="x_q is of type int4; expected int8 or uint8"):
        compile_model(tmp_path / "m.onnx", Options(exact_seconds=0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_has_the_bits_of_the_old_one(kind: str, tmp_path: Path) -> None:
    onnx.save(four_bits(kind), tmp_path / "m.onnx")
    model = prepare(tmp_path / "m.onnx", new_head=NewHead(7)).model
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "w1_q")
    dtype, zero = KINDS[kind]
    array = stored_array(weight).astype(int) - zero
    assert (weight.data_type, tuple(weight.dims)) == (dtype, (7, 40)) and array.min() >= -8 and array.max() <= 7 and array.any()
    onnx.checker.check_model(model)
