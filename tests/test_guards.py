# SPDX-License-Identifier: Apache-2.0
"""What is not finite changes nothing that is stored, and says so."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import STRICT, Instance, Library, _pointer
from onnx_models import ModelMaker

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.device.commands import Status
from tinytrain.emit.golden import golden_vectors
from tinytrain.emit.guards import Watch, most_bits, operands, watch
from tinytrain.gradient.replay import Replay
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array, Role, Value
from tinytrain.paths import data_dir
from tinytrain.planner import Plan
from tinytrain.verify.reference import ReferenceModel, run

KINDS: dict[str, dict[str, object]] = {
    "sgd": {}, "momentum": {"optimiser": Optimiser(0.01, 0.9)}, "adam": {"optimiser": Optimiser(0.001, kind="adam")},
    "accumulated": {"optimiser": Optimiser(accumulate=3)}, "clipped": {"optimiser": Optimiser(clip_norm=1.0)}, "fp16": {"dtype": "fp16"},
    "mse": {"loss": "mse"}, "step": {"guards": "step"}, "step with adam": {"guards": "step", "optimiser": Optimiser(0.001, kind="adam")},
}


def compiled(model: onnx.ModelProto, folder: Path, **options: object) -> Compiled:
    onnx.save(model, folder / "model.onnx")
    return compile_model(folder / "model.onnx", Options(exact_seconds=0.0, **options))  # type: ignore[arg-type]


def step(device: Instance, x: Array, target: Array) -> tuple[Status, float]:
    loss = np.zeros(1, np.float32)
    return Status(device.library.call("train_step", ctypes.byref(device.context), *map(_pointer, (x, target, loss)))), float(loss[0])


def squares(x: Array) -> float:
    """log2 of their sum, 0 at least."""
    return float(np.log2(max(1.0, np.square(x, dtype=np.float64).sum())))


def kept(device: Instance) -> bytes:
    return device.arena[: device.library.compiled.plan.fixed_bytes].tobytes()


def with_one(x: Array, value: float, at: int) -> Array:
    made = x.copy()
    made.reshape(-1)[at] = value
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_that_is_not_finite_changes_nothing(kind: str, tmp_path: Path) -> None:
    program = compiled(zoo.model("cnn"), tmp_path, **KINDS[kind])
    golden, reference = golden_vectors(program.program, 4), ReferenceModel(program.program)
    device = Library(program, tmp_path).instance()
    for i, value in enumerate((np.nan, np.inf, -np.inf)):
        assert step(device, golden.x[i], golden.target[i])[0] is Status.OK
        before, count = kept(device), device.context.count
        for at in (0, 5, golden.x[i].size - 1):
            bad = with_one(golden.x[i], value, at)
            status, loss = step(device, bad, golden.target[i])
            assert status is Status.NOT_FINITE and np.isnan(loss) and np.isnan(reference.train_step(bad, golden.target[i]))
        assert (kept(device), device.context.count) == (before, count)
    assert device.context.not_finite == reference.not_finite == 9
    assert step(device, golden.x[3], golden.target[3])[0] is Status.OK


def test_a_target_or_a_loss_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    program = compiled(zoo.model("mlp"), tmp_path, loss="mse")
    golden = golden_vectors(program.program, 1)
    device = Library(program, tmp_path).instance()
    x, target = golden.x[0], golden.target[0]
    before = kept(device)
    for wrong in (np.nan, np.inf, 3e38):                  # the last one's square is infinite
        assert step(device, x, with_one(target, wrong, target.size - 1))[0] is Status.NOT_FINITE
    assert kept(device) == before


def steep(layers: int = 4) -> onnx.ModelProto:
    """A deep model whose gradients grow by 1e12 a layer on their way back, and whose activations shrink as much on their way."""
    maker = ModelMaker(1, 6)
    for _ in range(layers):
        maker.dense(6, 6)
    model = maker.model()
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.ndim == 2:
            tensor.CopyFrom(onnx.numpy_helper.from_array((value * np.float32(1e12)).astype(np.float32), tensor.name))
    return model


@pytest.mark.parametrize("kind", ["rest", "step"])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_a_gradient_that_is_not_finite_leaves_finite_weights(kind: str, rule: str, tmp_path: Path) -> None:
    program = compiled(steep(), tmp_path, guards=kind, loss="l1", optimiser=Optimiser(0.001, kind=rule))
    golden = golden_vectors(compiled(steep(), tmp_path, loss="l1").program, 1)
    device = Library(program, tmp_path).instance()
    x = (golden.x[0] * np.float32(1e-38)).astype(np.float32)
    before = kept(device)
    status, _ = step(device, x, golden.target[0])
    assert status is Status.NOT_FINITE and device.context.not_finite == 1
    assert all(np.isfinite(v).all() for v in device.stored().values())
    assert kind == "rest" or kept(device) == before


def maps(filters: int = 6, layers: int = 3) -> onnx.ModelProto:
    """Convolutions whose weights are fewer than the elements of their maps."""
    maker = ModelMaker(1, 2, 12, 12)
    for channels in (2, *[filters] * (layers - 1)):
        maker.conv(filters, channels, pads=(1, 1, 1, 1))
        maker.node("Relu")
    maker.node("GlobalAveragePool")
    maker.node("Flatten")
    maker.dense(4, filters)
    return maker.model()


def watched(program: Compiled) -> tuple[Plan, Watch]:
    plan = program.plan.entries[program.program.trains[0]]
    return plan, watch(plan)


def test_weights_are_measured_where_they_are_fewer_than_what_they_bound(tmp_path: Path) -> None:
    plan, found = watched(compiled(maps(), tmp_path))
    elements = sum(v.type.numel for v in {v for read in operands(plan) for v in read})
    assert all(v.type.numel < 10 for v in found.looked) and 4 * found.elements < elements
    assert {Role.INPUT, Role.PARAM} <= {v.role for v in found.measured}
    _, found = watched(compiled(zoo.model("mlp"), tmp_path))
    assert found.looked and not found.measured


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("make", [maps, lambda: zoo.model("cnn")], ids=["maps", "cnn"])
def test_what_is_measured_bounds_all_that_updates_are_made_of(make: Callable[[], onnx.ModelProto], scale: float, tmp_path: Path) -> None:
    program = compiled(make(), tmp_path)
    plan, found = watched(program)
    golden, most = golden_vectors(program.program, 1), most_bits(plan.graph)
    stored = {v: v.data * np.float32(scale) for v in plan.graph.stored(Role.PARAM, Role.STATE) if v.data is not None}
    read = {v for read in operands(plan) for v in read}
    result = run(plan.graph, [golden.x[0], golden.target[0]], stored, keep={v for v in (*read, *found.measured) if v.role is Role.TEMP})

    def size(v: Value) -> float:
        return squares(golden.x[0] if v.role is Role.INPUT else stored[v] if v in stored else result.values[v])

    spent = sum(size(v) for v in found.measured)
    for update in operands(plan):
        looked = sum(v in found.looked for v in update)
        if looked < len(update):
            assert sum(size(v) for v in update if v not in found.looked) + looked * most / 2 <= most - found.room + spent


@pytest.mark.parametrize("flags", [(), ("-DTT_SOFT_FLOATS",)], ids=["squares", "bits"])
@pytest.mark.parametrize("kind", ["rest", "step"])
def test_weights_that_could_make_a_gradient_infinite_stay_as_they_were(kind: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    """The loss of this sample is finite, and so are all activations."""
    program = compiled(maps(), tmp_path, guards=kind)
    golden = golden_vectors(program.program, 2)
    device = Library(program, tmp_path, "-O1", *flags).instance()
    assert step(device, golden.x[0], golden.target[0])[0] is Status.OK
    for v, at in program.plan.fixed.items():
        if v.role is Role.PARAM and len(v.shape) == 4:
            device.arena[at : at + v.type.nbytes].view(np.float32)[...] *= np.float32(1e12)
    before = kept(device)
    x = (golden.x[1] * np.float32(1e-30)).astype(np.float32)
    assert np.isfinite(device.evaluate(x, golden.target[1])[0])
    assert step(device, x, golden.target[1])[0] is Status.NOT_FINITE
    assert kept(device) == before and device.context.not_finite == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_seen_though_the_loss_hides_it(value: float, tmp_path: Path) -> None:
    """Behind a ReLU6 what is infinite is 6, and where its bias is far below zero it is 0."""
    maker = ModelMaker(1, 2, 12, 12)
    maker.conv(6, 2)
    maker.node("Clip", maker.stored(np.float32(0)), maker.stored(np.float32(6)))
    maker.conv(6, 6)
    maker.node("Relu")
    maker.node("GlobalAveragePool")
    maker.node("Flatten")
    maker.dense(4, 6)
    program = compiled(maker.model(), tmp_path)
    golden = golden_vectors(program.program, 1)
    device = Library(program, tmp_path).instance()
    at = next(at for v, at in program.plan.fixed.items() if v.role is Role.PARAM and len(v.shape) == 4)
    device.arena[at : at + 4].view(np.float32)[0] = value
    before = kept(device)
    assert step(device, golden.x[0], golden.target[0])[0] is Status.NOT_FINITE
    assert kept(device) == before


def of_the_header(signature: str, returned: str, flags: Sequence[str], folder: Path) -> Callable[..., int]:
    """A C function that returns this expression of tt_guard.h, compiled for this computer."""
    source, library = folder / "called.c", folder / "called.so"
    source.write_text(f'#include "tt_guard.h"\n{signature};\n{signature} {{ return {returned}; }}\n')
    subprocess.run(["gcc", *STRICT, "-O1", *flags, "-shared", "-fPIC", f"-I{data_dir('runtime_c')}", source, "-o", library], check=True)
    called: Callable[..., int] = ctypes.CDLL(str(library)).called
    return called


@pytest.mark.parametrize("flags", [(), ("-DTT_SOFT_FLOATS",)], ids=["squares", "bits"])
def test_the_size_of_floats_is_above_the_sum_of_their_squares(flags: tuple[str, ...], tmp_path: Path) -> None:
    size = of_the_header("int32_t called(const float *from, int32_t n)", "tt_size(from, n)", flags, tmp_path)
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 7, 8, 16, 31, 64, 1000):
        assert size(_pointer(np.zeros(n, np.float32)), n) == size(_pointer(np.full(n, 1e-20, np.float32)), n) == 0
        for scale in (1.0, 100.0, 1e15):
            x = (rng.normal(size=n) * scale).astype(np.float32)
            exact = squares(x)
            assert exact <= size(_pointer(x), n) <= exact + (4 + n.bit_length() if flags else 2)
            for bad in (np.nan, -np.nan, np.inf, -np.inf):
                for at in {0, n // 2, n - 1}:
                    assert size(_pointer(with_one(x, bad, at)), n) > 238


def test_without_guards_nothing_is_looked_at(tmp_path: Path) -> None:
    program = compiled(zoo.model("cnn"), tmp_path, guards="none")
    golden = golden_vectors(program.program, 1)
    device = Library(program, tmp_path).instance()
    assert step(device, with_one(golden.x[0], np.nan, 0), golden.target[0])[0] is Status.OK
    assert "tt_beyond(" not in program.files["model.c"]


@pytest.mark.parametrize("flags", [(), ("-DTT_SOFT_FLOATS",)], ids=["squares", "bits"])
def test_one_number_that_is_too_large_is_seen_wherever_it_stands(flags: tuple[str, ...], tmp_path: Path) -> None:
    look = of_the_header("int called(const float *from, int32_t n, uint32_t limit)", "tt_beyond(from, n, limit)", flags, tmp_path)
    rng = np.random.default_rng(0)
    for exponent in (20, 48, 128):
        most = float(2.0**exponent)
        below = np.nextafter(np.float32(min(most, 3.4e38)), np.float32(0))
        limit = ctypes.c_uint32((127 + exponent) << 23)
        for n in (1, 2, 3, 4, 7, 64, 101):
            x = rng.uniform(-below, below, n).astype(np.float32)
            assert not look(_pointer(x), n, limit)
            for bad in (np.nan, np.inf, -np.inf, *((most, -most) if exponent < 128 else ())):
                for at in {0, n // 2, n - 1}:
                    assert look(_pointer(with_one(x, bad, at)), n, limit), (exponent, n, bad, at)


@pytest.mark.parametrize("kind", ["rest", "step"])
def test_a_sample_whose_gradients_are_not_finite_is_not_remembered(kind: str, tmp_path: Path) -> None:
    options = {"guards": kind, "loss": "l1", "replay": Replay.of("4")}
    program = compiled(steep(), tmp_path, **options)
    golden = golden_vectors(compiled(steep(), tmp_path, loss="l1").program, 1)
    device = Library(program, tmp_path).instance()
    before = {name: array for name, array in device.stored().items() if name.startswith("replay")}
    status, _ = step(device, (golden.x[0] * np.float32(1e-38)).astype(np.float32), golden.target[0])
    assert status is Status.NOT_FINITE and before
    for name, array in before.items():
        np.testing.assert_array_equal(device.stored()[name], array, err_msg=name)
