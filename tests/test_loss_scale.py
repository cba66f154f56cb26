# SPDX-License-Identifier: Apache-2.0
"""The loss scale follows overflow, and what overflowed changes no weight: NumPy, host twin and boards alike."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ctypes_model import STRICT, Instance, Library
from onnx_models import ModelMaker
from test_ports import two_headed
from test_traces import assert_boards_equal_twins

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.device.commands import Status
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.emit.kernels import KernelCall, render
from tinytrain.gradient.loss_scale import LossScale, OnOverflow
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import LOSS_SCALE, Graph
from tinytrain.ir.types import F16, F32, S32, Array, DType, Role, TensorType
from tinytrain.ops.loss_scale import EXPONENT, IN_A_ROW, LARGEST, PATIENCE, SKIPPED, Overflow
from tinytrain.paths import data_dir
from tinytrain.verify.reference import ReferenceModel

BOTH: tuple[OnOverflow, ...] = ("rest", "step")
TOO_LARGE = np.float32(1e6)                               # as a target its loss is finite, and its gradients are none that fp16 can hold


def compiled(model: onnx.ModelProto, folder: Path, board: str = "host", **options: object) -> Compiled:
    onnx.save(model, folder / "model.onnx")
    stored = {} if "dtype" in options else {"grad": "fp16"}
    return compile_model(folder / "model.onnx", Options(board=board, exact_seconds=0.0, **stored, **options))  # type: ignore[arg-type]


def busy_model() -> onnx.ModelProto:
    """With all that a step changes beside weights: running statistics, and the counter of Dropout."""
    maker = ModelMaker(1, 2, 6, 6)
    maker.conv(4, 2, pads=[1, 1, 1, 1])
    maker.batch_norm(4)
    maker.node("Relu")
    maker.conv(4, 4)
    maker.node("Relu")
    maker.node("Flatten")
    maker.node("Dropout")
    maker.dense(3, 64)
    return maker.model()


def record(model: ReferenceModel) -> list[int]:
    return next(array for v, array in model.state.items() if v.name == LOSS_SCALE).tolist()


def changed(before: dict[str, Array], after: dict[str, Array]) -> set[str]:
    """Names of what is not the same bit for bit."""
    return {name for name, array in after.items() if array.tobytes() != before[name].tobytes()}


def by_name(model: ReferenceModel) -> dict[str, Array]:
    return {v.name: array.copy() for v, array in model.state.items()}


def status_of(device: Instance, x: Array, target: Array) -> int:
    given = (ctypes.c_void_p(array.ctypes.data) for array in (x, target, np.empty(1, np.float32)))
    return device.library.call("train_step", ctypes.byref(device.context), *given)


def samples(program: Compiled, count: int) -> Iterator[tuple[Array, Array]]:
    golden = golden_vectors(program.program, count)
    return zip(golden.x, golden.target, strict=True)


@pytest.mark.parametrize(("kind", "count"), [(F16, 1), (F16, 7), (F16, 8), (F16, 45), (F16, 77), (F32, 3), (F32, 4), (F32, 39)])
def test_overflow_is_found_in_every_place(kind: DType, count: int, tmp_path: Path) -> None:
    """Whatever is infinite or not a number, and nothing else."""
    x, flag = TensorType((count,), kind), TensorType((1,), S32)
    text = render(KernelCall(Overflow(), (x, flag), (flag,), Overflow.kernels[0]), "look")
    text += f"void entry(const {kind.c} *x, const int32_t *before, int32_t *found) {{ look(x, before, found); }}\n"
    (tmp_path / "look.c").write_text(f'#include "tt_half.h"\nvoid entry(const {kind.c} *, const int32_t *, int32_t *);\n{text}')
    command = ["gcc", *STRICT, "-O1", "-shared", "-fPIC", f"-I{data_dir('runtime_c')}", tmp_path / "look.c", "-o", tmp_path / "look.so"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(tmp_path / "look.so"))
    largest = np.finfo(kind.np).max
    fine = np.resize(np.array([largest, -largest, 0, -0.0, np.finfo(kind.np).smallest_subnormal, 1], kind.np), count)

    def look(array: Array, before: int = 0) -> int:
        found, given = np.empty(1, np.int32), np.array([before], np.int32)
        library.entry(*(ctypes.c_void_p(a.ctypes.data) for a in (array, given, found)))
        return int(found[0])

    assert look(fine) == 0 and look(fine, before=1) == 1
    for at in range(count):
        for bad_one in (np.inf, -np.inf, np.nan, -np.nan):
            spoilt = fine.copy()
            spoilt[at] = bad_one
            assert look(spoilt) == 1, (at, bad_one)


@pytest.mark.parametrize("on_overflow", BOTH)
def test_the_scale_falls_to_what_fits_and_grows_again(on_overflow: OnOverflow, tmp_path: Path) -> None:
    steps = 4
    program = compiled(zoo.model("cnn"), tmp_path, loss_scale=LossScale(2.0**LARGEST, steps, on_overflow))
    model = ReferenceModel(program.program)
    exponent, good, skipped, in_a_row = LARGEST, 0, 0, 0
    grown, moved_by_tries = 0, 0
    for x, target in samples(program, 40):
        before, tried = by_name(model), good == 0
        model.train_step(x, target)
        overflowed = record(model)[SKIPPED] > skipped
        if overflowed:
            exponent, good, skipped, in_a_row = exponent - 1, 0, skipped + 1, in_a_row + 1
        else:
            good, in_a_row = good + 1, 0
            if good == steps and exponent < LARGEST:
                exponent, good, grown = exponent + 1, 0, grown + 1
        assert record(model) == [exponent, good, skipped, in_a_row]
        moved = changed(before, by_name(model)) - {LOSS_SCALE}
        if on_overflow == "step":
            assert bool(moved) != overflowed
        else:
            moved_by_tries += tried and bool(moved)
            assert moved or tried
    assert skipped >= 3 and grown >= 2 and not moved_by_tries and not model.overflows


def test_a_scale_at_its_largest_stays_and_goes_on_training(tmp_path: Path) -> None:
    """Nothing grows, so that nothing has to be tried again."""
    program = compiled(zoo.model("cnn"), tmp_path, loss="mse", loss_scale=LossScale(2.0**LARGEST, 2))
    model = ReferenceModel(program.program)
    x = np.zeros(program.program.entries["infer"].inputs[0].shape, np.float32)
    for count in range(1, 6):
        model.train_step(x, np.full(10, 1e-6, np.float32))
        assert record(model) == [LARGEST, min(count, 2), 0, 0]


def test_a_static_scale_stays_and_is_looked_at(tmp_path: Path) -> None:
    program = compiled(zoo.model("cnn"), tmp_path, loss="mse", optimiser=Optimiser(1e-9), loss_scale=LossScale(2.0**10, 0))
    model = ReferenceModel(program.program)
    x, target = next(samples(program, 1))
    for given, want in ((target, [10, 1, 0, 0]), (target, [10, 1, 0, 0]), (target + TOO_LARGE, [10, 0, 1, 1]), (target, [10, 1, 1, 0])):
        model.train_step(x, given)
        assert record(model) == want


@pytest.mark.parametrize(("on_overflow", "stored"), [("rest", {"grad": "fp16"}), ("step", {"dtype": "fp16"})])
def test_boards_equal_the_host_twin_bit_for_bit(on_overflow: OnOverflow, stored: dict[str, Any], tmp_path: Path) -> None:
    """Through overflow, tries and growth; the record is part of what is compared."""
    onnx.save(zoo.model("cnn"), tmp_path / "cnn.onnx")

    def program(board: str) -> Compiled:
        scale = LossScale(2.0**LARGEST, 3, on_overflow)
        return compile_model(tmp_path / "cnn.onnx", Options(
            board=board, optimiser=Optimiser(0.02, 0.9, weight_decay=1e-3), loss_scale=scale, exact_seconds=0.0, **stored,
        ))

    golden = golden_vectors(program("host").program, 14)
    assert_boards_equal_twins(["mps2-an386", "riscv-virt"], program, golden, tmp_path)
    model = ReferenceModel(program("host").program)
    for x, target in zip(golden.x, golden.target, strict=True):
        model.train_step(x, target)
    with Project.open(tmp_path / "host").session() as session:
        for x, target in zip(golden.x, golden.target, strict=True):
            session.train_step(x, target)
        assert session.get_params()[LOSS_SCALE].tolist() == record(model)
        scale = session.scale()
        assert scale is not None and scale.loss_scale == 2.0 ** record(model)[EXPONENT] and scale.overflowed == record(model)[SKIPPED] >= 3
        session.reset()
        assert session.get_params()[LOSS_SCALE].tolist() == [LARGEST, 0, 0, 0]


def test_rest_makes_the_updates_before_the_overflow(tmp_path: Path) -> None:
    """The classifier's gradient is finite; those of the convolutions are made of a map that overflowed. Then a step only tries."""
    program = compiled(zoo.model("cnn"), tmp_path, loss="mse", optimiser=Optimiser(1e-9, 0.9))
    model = ReferenceModel(program.program)
    pairs = list(samples(program, 4))
    for x, target in pairs[:2]:
        model.train_step(x, target)
    before = by_name(model)
    model.train_step(pairs[2][0], pairs[2][1] + TOO_LARGE)
    assert changed(before, by_name(model)) == {LOSS_SCALE, "fc_weight", "fc_bias", "velocity_fc_weight", "velocity_fc_bias"}
    assert all(np.isfinite(array).all() for array in by_name(model).values())
    before = by_name(model)
    model.train_step(*pairs[3])
    assert changed(before, by_name(model)) == {LOSS_SCALE}


OPTIMISERS = {
    "sgd": Optimiser(0.01),
    "momentum": Optimiser(0.01, 0.9, weight_decay=0.1),
    "momentum in int8": Optimiser(0.01, 0.9, int8_momentum=True),
    "adam": Optimiser(0.01, kind="adam", weight_decay=0.1),
    "adamw": Optimiser(0.01, kind="adamw", weight_decay=0.1),
    "rmsprop": Optimiser(0.01, 0.5, kind="rmsprop"),
    "adagrad, clipped": Optimiser(0.01, kind="adagrad", clip_value=0.1),
    "clipped by the norm": Optimiser(0.01, 0.9, clip_norm=0.5),
    "accumulated": Optimiser(0.01, 0.9, accumulate=3),
}


HALVES = {
    "halves": Optimiser(0.01), "halves, drawn": Optimiser(0.01, master=False), "halves, momentum": Optimiser(0.01, 0.9, weight_decay=0.1),
    "halves, drawn, adam": Optimiser(0.01, kind="adam", master=False),
}


def bad(x: Array, target: Array, what: str) -> tuple[Array, Array]:
    return (np.full_like(x, np.nan), target) if what == "nan" else (x, target + TOO_LARGE)


@pytest.mark.parametrize(
    ("name", "on_overflow"),
    [*((name, "step") for name in OPTIMISERS | HALVES), *((name, "rest") for name in ("momentum", "adamw", "accumulated", "halves"))],
)
def test_a_skipped_step_changes_nothing_but_the_record(name: str, on_overflow: OnOverflow, tmp_path: Path) -> None:
    """Weights, momentum, moments, the number of the update, sums, running statistics, the counter of Dropout: on the twin, bit for bit."""
    program = compiled(
        busy_model(), tmp_path, loss="mse", optimiser=(OPTIMISERS | HALVES)[name], loss_scale=LossScale(on_overflow=on_overflow),
        dropout=True, running_statistics=True, guards="none", **({"dtype": "fp16"} if name in HALVES else {}),
    )
    device, model = Library(program, tmp_path).instance(), ReferenceModel(program.program)
    kinds = ("large", "nan") if on_overflow == "step" else ("nan",)
    *first, skipped, last = samples(program, 5)           # two of three that a sum takes are bad
    for x, target in first:
        device.train_step(x, target)
        model.train_step(x, target)
    before, wanted = device.stored(), by_name(model)
    for what in kinds:
        device.train_step(*bad(*skipped, what))
        model.train_step(*bad(*skipped, what))
    assert device.stored()[LOSS_SCALE].tolist() == record(model) == [10 - len(kinds), 0, len(kinds), len(kinds)]
    assert changed(before, device.stored()) == changed(wanted, by_name(model)) == {LOSS_SCALE}
    for _ in range(4):
        device.train_step(*last)
    after = device.stored()
    assert changed(before, after) >= {v.name for v in program.program.stored(Role.PARAM)}, "it goes on"
    assert all(np.isfinite(array).all() for array in after.values())


def test_a_bad_sample_does_not_poison_a_sum(tmp_path: Path) -> None:
    """The update is that by the other samples of the sum; where there are none, momentum and weight decay do not move anything either."""
    optimiser = Optimiser(0.01, 0.9, weight_decay=0.1, accumulate=3)
    program = compiled(zoo.model("cnn"), tmp_path, loss="mse", optimiser=optimiser, guards="none")
    model, other = ReferenceModel(program.program), ReferenceModel(program.program)
    (x, target), *pairs = samples(program, 4)
    for given in pairs:
        model.train_step(*given)
    other.state = dict(model.state)
    model.train_step(x, target)
    model.train_step(np.full_like(x, np.nan), target)
    model.train_step(x, target)
    other.train_step(x, target)
    other.count += 1                                      # two samples, and the mean of three
    other.train_step(x, target)
    assert changed(by_name(other), by_name(model)) == {LOSS_SCALE}
    before = by_name(model)
    for _ in range(3):
        model.train_step(x, target + TOO_LARGE)
    assert changed(before, by_name(model)) == {LOSS_SCALE} and model.count == 0


@pytest.mark.parametrize("scale", [LossScale(), LossScale(2.0**10, 0), LossScale(on_overflow="step")], ids=["auto", "static", "step"])
@pytest.mark.parametrize("optimiser", [OPTIMISERS["adamw"], OPTIMISERS["accumulated"]], ids=["adamw", "accumulated"])
def test_overflow_in_every_step_has_a_status_and_leaves_weights_untouched(
    scale: LossScale, optimiser: Optimiser, tmp_path: Path
) -> None:
    program = compiled(zoo.model("cnn"), tmp_path, loss="mse", optimiser=optimiser, loss_scale=scale)
    device, model = Library(program, tmp_path).instance(), ReferenceModel(program.program)
    before = device.stored()
    x, target = next(samples(program, 1))
    for step in range(1, PATIENCE + 2):                   # seven sums
        assert status_of(device, x, target + np.float32(1e15)) == (Status.OVERFLOW if step >= PATIENCE else Status.OK)
        model.train_step(x, target + np.float32(1e15))
        assert model.overflows == (step >= PATIENCE)
    assert changed(before, device.stored()) == {LOSS_SCALE}
    assert device.stored()[LOSS_SCALE].tolist() == record(model) and record(model)[IN_A_ROW] == PATIENCE + 1
    assert status_of(device, x, target) in (Status.OK, Status.OVERFLOW)


@pytest.mark.parametrize("optimiser", [Optimiser(0.01), Optimiser(0.01, clip_norm=1.0)], ids=["each", "norm"])
def test_every_stored_gradient_is_looked_at_before_its_updates(optimiser: Optimiser, tmp_path: Path) -> None:
    program = compiled(busy_model(), tmp_path, optimiser=optimiser)
    graph = program.plan.entries["train"].graph
    maps = [v for v in graph.values() if v.type.dtype is F16 and not any(n.op.view and v in n.outputs for n in graph.nodes)]
    looked = [node.inputs[0] for node in graph.nodes if isinstance(node.op, Overflow)]
    assert maps and sorted(v.name for v in looked) == sorted(v.name for v in [graph.outputs[0], *maps])
    for v in maps:
        for update in graph.updates.values():
            if depends(graph, v) & {update}:
                flag = next(n.outputs[0] for n in graph.nodes if isinstance(n.op, Overflow) and n.inputs[0] is v)
                assert update in depends(graph, flag), f"{update!r} is made of {v!r}"


@pytest.mark.parametrize("on_overflow", BOTH)
def test_an_activation_that_overflows_behind_a_finite_loss_changes_nothing(on_overflow: OnOverflow, tmp_path: Path) -> None:
    """ReLU6 of the infinite is 6; the gradient of the first weight is not."""
    maker = ModelMaker(1, 1, 5, 5)
    maker.conv(3, 1)
    maker.node("Clip", maker.stored(np.float32(0)), maker.stored(np.float32(6)))
    maker.node("Flatten")
    maker.dense(4, 27)
    program = compiled(maker.model(), tmp_path, dtype="fp16", loss_scale=LossScale(on_overflow=on_overflow))
    device = Library(program, tmp_path).instance()
    for x, target in samples(program, 3):
        device.train_step(x, target)
    before = device.stored()
    large = np.array(x)
    large.flat[12] = 1e5
    assert np.isfinite(device.train_step(large, target))
    assert changed(before, device.stored()) == {LOSS_SCALE} and device.stored()[LOSS_SCALE][SKIPPED] == 1


def depends(graph: Graph, value: object) -> set[object]:
    """All that is made of a value."""
    found = {value}
    for node in graph.nodes:
        if found & set(node.inputs):
            found.update(node.outputs)
    return found


def test_steps_that_keep_all_gradients_take_more_memory(tmp_path: Path) -> None:
    rest, step = (compiled(zoo.model("cnn"), tmp_path, loss_scale=LossScale(on_overflow=way)).plan.arena_bytes for way in BOTH)
    assert rest < step


def test_without_fp16_nothing_is_scaled(tmp_path: Path) -> None:
    onnx.save(zoo.model("cnn"), tmp_path / "cnn.onnx")
    program = compile_model(tmp_path / "cnn.onnx", Options()).program
    assert not any("scale" in node.op.name or "overflow" in node.op.name for graph in program.entries.values() for node in graph.nodes)
    assert LOSS_SCALE not in {v.name for v in program.stored(Role.STATE)}


def test_each_of_several_losses_is_scaled(tmp_path: Path) -> None:
    """By its own weight, and by the scale: without halves all bits are those without a scale."""
    made_of = {}
    for scale in (None, LossScale(2.0**13)):
        optimiser = Optimiser(0.01, accumulate=2, loss_scale=scale)
        options = Options(loss="label=ce,box=mse:0.5", optimiser=optimiser, exact_seconds=0.0)
        program = compile_model(two_headed(tmp_path / "two.onnx"), options)
        model = ReferenceModel(program.program)
        for x, target in samples(program, 4):
            model.train_step(x, target)
        made_of[scale] = by_name(model)
    first, second = made_of.values()
    assert changed(first, {name: second[name] for name in first}) == set() and second.keys() - first.keys() == {LOSS_SCALE}


def test_all_schemes_share_the_record(tmp_path: Path) -> None:
    program = compiled(zoo.model("cnn"), tmp_path, loss="mse", scheme="full", further_schemes=("last:2",))
    device, model = Library(program, tmp_path).instance(), ReferenceModel(program.program)
    x, target = next(samples(program, 1))
    for step in range(PATIENCE):
        assert device.library.call("set_scheme", ctypes.byref(device.context), ctypes.c_uint32(step % 2)) == Status.OK
        model.set_scheme(step % 2)
        assert status_of(device, x, target + np.float32(1e15)) == (Status.OVERFLOW if step + 1 == PATIENCE else Status.OK)
        model.train_step(x, target + np.float32(1e15))
    assert device.stored()[LOSS_SCALE].tolist() == record(model) == [10 - PATIENCE, 0, PATIENCE, PATIENCE]
