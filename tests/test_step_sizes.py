# SPDX-License-Identifier: Apache-2.0
"""One step moves an int8 weight by what it moves the real one: each optimiser, rounding, type of gradients, scaling and kind of parameter.

What the optimiser would do is computed here in float64 from the gradient of each step, in real units; what it does may differ from that by
one unit of the stored weight, and in the mean by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
import onnx
import pytest
from cli_runs import sentence
from quant_models import Qdq

from tinytrain.compiler import Options, load_forward, lowered
from tinytrain.errors import ModelError
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser, States, Updater
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Program
from tinytrain.ir.types import S8, S32, Array, Quant, Role, TensorType, Value
from tinytrain.ops.adam import Adam
from tinytrain.ops.integer_gradient import MOST
from tinytrain.ops.optimiser_int import Rounding
from tinytrain.ops.schedule import Schedule
from tinytrain.passes.scale_gradients import scale_gradients
from tinytrain.schemes.scheme import Scheme, Select, resolve
from tinytrain.verify.reference import ReferenceModel, run

STEPS = 8
SHAPE = (1, 2, 5, 5)
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
SGD = {
    "sgd": Optimiser(0.005),
    "momentum": Optimiser(0.005, 0.8),
    "nesterov": Optimiser(0.005, 0.8, nesterov=True),
    "momentum_int8": Optimiser(0.005, 0.8, int8_momentum=True),
    "nesterov_int8": Optimiser(0.005, 0.8, nesterov=True, int8_momentum=True),
    "decay": Optimiser(0.005, 0.8, weight_decay=3.0),
    "decay_int8": Optimiser(0.005, 0.8, weight_decay=3.0, int8_momentum=True),
}
ADAM = {"adam": Optimiser(0.002, kind="adam"), "adam_decay": Optimiser(0.002, kind="adamw", weight_decay=3.0)}
CLIPPED = {"clip_value": Optimiser(0.02, 0.8, clip_value=0.05), "clip_norm": Optimiser(0.02, 0.8, clip_norm=0.3)}
OPTIMISERS = SGD | ADAM | CLIPPED
SLICES = Scheme({
    "Conv_c": {"weight": Select(channels=(1, 2), side="out"), "bias": Select()},
    "Gemm_g": {"weight": Select(channels=tuple(range(8, 20)))},
}, rates={"Gemm_g": 0.5})


@pytest.fixture(scope="module")
def forward(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Weights with a scale for each channel and with one in all, biases at s_x·s_w."""
    rng = np.random.default_rng(4)
    net = Qdq()
    net.quantised("x", -1.0, 1.0)
    net.weight("w1", 4, 2, 3, 3)
    net.bias("b1", "x", "w1", 4)
    net.add("Relu", net.add("Conv", "x_d w1 b1", "c"), "r")
    net.quantised(net.add("Flatten", net.quantised("r", 0.0, 1.0), "f"), 0.0, 1.0)
    net.weight("w2", 3, 36, axis=None)
    net.bias("b2", "f", "w2", 3)
    net.quantised(net.add("Gemm", "f_d w2 b2", "g", transB=1), -4.0, 4.0, name="y")
    scales = {"w1_s": np.geomspace(0.02, 0.0005, 4).astype(np.float32), "w2_s": np.array(0.004, np.float32)}
    numbers = {"w1_q": (4, 2, 3, 3), "b1_q": (4,), "w2_q": (3, 36), "b2_q": (3,)}
    net.arrays |= {name: rng.integers(-60, 61, shape).astype(net.arrays[name].dtype) for name, shape in numbers.items()}
    net.arrays |= scales | {"b1_s": net.arrays["x_s"] * scales["w1_s"], "b2_s": net.arrays["f_s"] * scales["w2_s"]}
    path = tmp_path_factory.mktemp("steps") / "net.onnx"
    onnx.save(net.model(SHAPE), path)
    return load_forward(path, Options())[2]


def program_of(forward: Graph, options: Options, loss: str = "ce") -> Program:
    return lowered(build_program(forward, loss, resolve(options.scheme, forward), options.rule), options)


def scales_of(kind: TensorType) -> Array:
    """What one unit of a stored number is worth, in a shape that goes with it."""
    assert kind.quant is not None
    axis = kind.quant.axis
    return np.array(kind.quant.scale).reshape([-1 if a == axis else 1 for a in range(len(kind.shape))] if axis is not None else ())


@dataclass
class Ideal:
    """The optimiser of one parameter in float64, from its definition."""

    rule: Optimiser
    rate: float
    velocity: Array | float = 0.0
    moments: tuple[Array | float, Array | float] = (0.0, 0.0)
    count: int = field(default=0)

    def step(self, g: Array, w: Array) -> Array:
        """By how much w changes."""
        rule, self.count = self.rule, self.count + 1
        if rule.kind.startswith("adam"):
            m, v = self.moments = 0.9 * self.moments[0] + 0.1 * g, 0.999 * self.moments[1] + 0.001 * g * g
            direction = m / (1 - 0.9**self.count) / (np.sqrt(v / (1 - 0.999**self.count)) + 1e-8)
            return -self.rate * (direction + rule.weight_decay * w)
        inside = 0.0 if rule.int8_momentum else rule.weight_decay * w       # int8 momentum: beside, not through it
        self.velocity = rule.momentum * self.velocity + g + inside
        direction = g + inside + rule.momentum * self.velocity if rule.nesterov else self.velocity
        return np.asarray(-self.rate * (direction + rule.weight_decay * w - inside))


class Device:
    """A program as it trains, and what its parameters are worth."""

    def __init__(self, forward: Graph, options: Options, loss: str = "ce") -> None:
        self.options = options
        self.model = ReferenceModel(program_of(forward, options, loss))
        self.params = self.model.program.stored(Role.PARAM)
        # the same graph, where nothing is updated but the sums of gradients of the stored numbers, in fp32
        self.probe = program_of(forward, Options(scheme=options.scheme, optimiser=Optimiser(accumulate=2)), loss).entries["train"]
        self.unit = {v.name: scales_of(v.type) if options.qas else np.ones(()) for v in self.params}

    def state(self, name: str) -> Array | None:
        return next((array for v, array in self.model.state.items() if v.name == name), None)

    def stored(self, v: Value) -> Array:
        """A parameter with all that is kept of it, in units of the stored number."""
        residue, left = self.state(f"residue_{v.name}"), self.state(f"left_{v.name}")
        whole = self.model.state[v].astype(np.float64)
        return whole + (0 if residue is None else residue / 256.0) + (0 if left is None else left.astype(np.float64))

    def velocity(self, v: Value) -> Array:
        """A momentum kept in int8, as it stands for reals."""
        q, e = self.state(f"velocity_{v.name}"), self.state(f"exponent_{v.name}")
        assert q is not None and e is not None
        return np.asarray(q.astype(np.float64) * 2.0 ** float(e[0]) / self.unit[v.name])

    def gradients(self, x: Array, target: Array) -> Mapping[str, Array]:
        """d loss / d real of each parameter, for the weights of now."""
        live = {v.name: array for v, array in self.model.state.items()}
        given = {v: live[v.name] for v in self.probe.stored(Role.PARAM)}
        found = {old.name: new for old, new in run(self.probe, [x, target], given).updates.items()}
        return {v.name: found[f"sum_{v.name}"].astype(np.float64) / self.unit[v.name] for v in self.params}


def sample(number: int, device: Device) -> tuple[Array, Array]:
    x = device.probe.inputs[0]
    rng = np.random.default_rng(number)
    return rng.uniform(-1, 1, x.shape).astype(np.float32), np.array([rng.integers(3)], np.int32)


def moves(device: Device) -> tuple[dict[str, list[Array]], dict[str, list[Array]]]:
    """(moved, to be moved) of each parameter in each step, in units of the stored number; elements at their bounds left out."""
    rule = device.options.optimiser
    ideals = {v.name: Ideal(rule, rule.learning_rate * rate_of(device, v)) for v in device.params}
    moved: dict[str, list[Array]] = {v.name: [] for v in device.params}
    wanted: dict[str, list[Array]] = {v.name: [] for v in device.params}
    for step in range(STEPS):
        before = {v.name: device.stored(v) for v in device.params}
        kept = {v.name: device.model.state[v].astype(np.float64) for v in device.params}      # what decays: not what rounding left out
        if rule.int8_momentum:
            for v in device.params:
                ideals[v.name].velocity = device.velocity(v)
        sums: dict[str, Array] = {}
        for number in range(rule.accumulate):
            x, target = sample(step * rule.accumulate + number, device)
            for name, grad in device.gradients(x, target).items():
                sums[name] = sums.get(name, np.zeros(())) + grad / rule.accumulate
            device.model.train_step(x, target)
        sums = clipped(rule, sums)
        for v in device.params:
            unit, after = device.unit[v.name], device.stored(v)
            want = ideals[v.name].step(sums[v.name], kept[v.name] * unit) / unit
            free = (np.abs(device.model.state[v].astype(np.int64)) < 127) | (v.type.dtype is S32)
            moved[v.name].append((after - before[v.name])[free])
            wanted[v.name].append(want[free])
    return moved, wanted


def clipped(rule: Optimiser, grads: Mapping[str, Array]) -> dict[str, Array]:
    """Real gradients within the bounds of each element, or of the norm of all."""
    if rule.clip_value:
        return {name: np.clip(g, -rule.clip_value, rule.clip_value) for name, g in grads.items()}
    norm = np.sqrt(sum(np.square(g).sum() for g in grads.values()))
    assert not rule.clip_norm or norm > rule.clip_norm, "nothing is clipped: the test shows nothing"
    return {name: g * rule.clip_norm / norm if rule.clip_norm else g for name, g in grads.items()}


def rate_of(device: Device, v: Value) -> float:
    layer = 0.5 if device.options.scheme == SLICES and v.name.startswith("w2") else 1.0
    return layer * (device.options.optimiser.bias_factor if len(v.shape) == 1 else 1.0)


def assert_moves(device: Device, rtol: float = 2e-4, unit: float = 1.0) -> None:
    """Each element of each step within one unit; what is rounded without bias, in the mean within what chance allows."""
    moved, wanted = moves(device)
    assert max(np.abs(step).max() for steps in wanted.values() for step in steps) > 2, "nothing moves: the test shows nothing"
    gaps = []
    for name, steps in moved.items():
        for got, want in zip(steps, wanted[name], strict=True):
            gap = np.abs(got - want)
            bound = unit + 1e-3 + rtol * np.abs(want)
            assert (gap <= bound).all(), f"{name}: moved by {got[gap > bound]}, expected {want[gap > bound]}"
            gaps.append((got - want)[np.abs(want) < 1 / rtol / 10].ravel())
    if device.options.optimiser.rounding not in ("nearest", "truncate"):
        rest = np.concatenate(gaps)
        assert abs(rest.mean()) < 4 * 0.5 / np.sqrt(rest.size) + rtol


def naive(optimiser: Optimiser) -> Optimiser:
    """At a rate that moves stored numbers: without scaling they are taken for reals."""
    rate = 4.0 if optimiser.kind.startswith("adam") else 1000.0
    bounds = {"clip_value": optimiser.clip_value / 50, "clip_norm": optimiser.clip_norm / 50}
    return replace(optimiser, learning_rate=rate, weight_decay=optimiser.weight_decay / 1e5, **bounds)


@pytest.mark.parametrize("qas", [True, False], ids=["qas", "naive"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_step_is_that_of_the_real_weight(name: str, rounding: Rounding, qas: bool, forward: Graph) -> None:
    optimiser = replace(OPTIMISERS[name] if qas else naive(OPTIMISERS[name]), rounding=rounding)
    fine = {"residual": 1 / 256, "master": 0.0}.get(rounding, 1.0)
    assert_moves(Device(forward, Options(optimiser=optimiser, qas=qas)), unit=fine)


@pytest.mark.parametrize("qas", [True, False], ids=["qas", "naive"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_gradients_in_fp16(name: str, qas: bool, forward: Graph) -> None:
    """The scale that they have on their way does not reach the weight; what halves round off does."""
    optimiser = OPTIMISERS[name] if qas else naive(OPTIMISERS[name])
    device = Device(forward, Options(optimiser=optimiser, qas=qas, grad="fp16"))
    before = {v: array.copy() for v, array in device.model.state.items()}
    device.model.train_step(*sample(STEPS, device))
    assert {v.name for v, array in device.model.state.items() if (array != before[v]).any()} == {"loss_scale"}, "it was only tried"
    assert_moves(device, rtol=0.02)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_sums_of_gradients(name: str, forward: Graph) -> None:
    """With a factor for biases besides, and slices of weights."""
    optimiser = replace(OPTIMISERS[name], accumulate=3, bias_factor=0.25)
    assert_moves(Device(forward, Options(optimiser=optimiser, scheme=SLICES)))


@pytest.mark.parametrize("qas", [True, False], ids=["qas", "naive"])
@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_gradients_in_int8(rounding: Rounding, qas: bool, forward: Graph) -> None:
    """Seven bits of each gradient: on the whole as far as the real weight would go, up to the bound of a step, and by what rounding to
    whole units adds to that."""
    optimiser = replace(Optimiser(0.02) if qas else naive(SGD["sgd"]), rounding=rounding)
    moved, wanted = moves(Device(forward, Options(optimiser=optimiser, qas=qas, grad="int8")))
    shown = []
    for name in moved:
        got, far = np.concatenate(moved[name], axis=None), np.concatenate(wanted[name], axis=None)
        most = MOST[S8 if name.startswith("w") else S32]
        want = np.clip(far, -most, most)
        chance = 4 * 0.5 / np.linalg.norm(want)
        if chance < 0.2:                                  # without scaling, biases do not move at all
            assert abs(np.vdot(got, want) / np.vdot(want, want) - 1) < 0.15 + chance, name
            shown.append(name)
    assert {"w1_q", "w2_q"} <= set(shown)


FLOATS = "its momentum is fp32.\nUse --momentum-type int8."
DECAY = "weight decay and sums of gradients are fp32.\nLeave out --weight-decay, --accumulate."


@pytest.mark.parametrize(("optimiser", "why"), [
    *((rule, "what it keeps is computed in fp32.\nUse --optimiser sgd.") for rule in ADAM.values()),
    *((SGD[name], FLOATS) for name in ("momentum", "nesterov", "decay")),
    (SGD["decay_int8"], DECAY),
    (Optimiser(weight_decay=0.1), DECAY),
    *((rule, "gradients are clipped in fp32.\nLeave out --clip-value and --clip-norm.") for rule in CLIPPED.values()),
    (Optimiser(schedule=Schedule(warmup=3)), "the learning rate of an update is computed in fp32.\nLeave out --schedule and --warmup."),
    (Optimiser(accumulate=2), "sums of the gradients of several samples are fp32.\nLeave out --accumulate."),
    *((Optimiser(rounding=r), f"{r} rounding is one of fp32 steps.\nUse --rounding stochastic or nearest.") for r in ROUNDINGS[2:]),
])
def test_what_integers_alone_cannot_train(optimiser: Optimiser, why: str, forward: Graph) -> None:
    with pytest.raises(ModelError, match=f"cannot be trained with integers alone: {why}"):
        program_of(forward, Options(optimiser=optimiser, grad="int8"))


@pytest.mark.parametrize(("options", "said"), [
    (("--optimiser", "adam", "--momentum", 0.9), "--momentum is that of SGD and RMSProp; expected none with --optimiser adam"),
    (("--optimiser", "adam", "--nesterov"), "--nesterov has no effect with momentum 0"),
    (("--optimiser", "adam", "--momentum-type", "int8"), "--momentum-type int8 has no effect with momentum 0"),
    (("--master", "fp32", "--rounding", "nearest"), "--rounding nearest and --master fp32, which keeps what rounding leaves out, are both"),
])
def test_options_that_do_not_go_together(options: tuple[object, ...], said: str) -> None:
    assert said in sentence("compile", "model.onnx", "-o", "out", *options)


@pytest.mark.parametrize("scale", [1e-6, 0.003, 1.0])
@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e-3, 1e3])
def test_adam_is_the_same_in_stored_units(size: float, scale: float) -> None:
    """Epsilon is one of real gradients, also where these are tiny."""
    g = (size * np.random.default_rng(0).normal(0, 1, (4, 5))).astype(np.float32)
    zero, count, unit = np.zeros_like(g), np.ones(1, np.int32), np.float32(scale)
    real = Adam().reference(g, zero, zero, count)
    stored = Adam(factored=True).reference(g * unit, zero, zero, count, np.array([1 / unit], np.float32))
    for a, b in zip(real, stored, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5)


@pytest.mark.parametrize(("scale", "optimiser", "fits"), [
    (1e-19, SGD["sgd"], True), (1e-20, SGD["sgd"], False), (1e18, SGD["momentum"], True), (1e20, SGD["momentum"], False),
    (1e-20, ADAM["adam"], True), (1e-39, ADAM["adam"], False),
])
def test_a_scale_beyond_fp32_is_refused(scale: float, optimiser: Optimiser, fits: bool) -> None:
    """Its factor would be infinite, in C that does not compile, or zero, and nothing would be trained."""
    g = Builder("net")
    updater = Updater(g, optimiser, States(optimiser))
    weight = g.value("w", TensorType((3, 2), S8, Quant((scale,), 0, None)), Role.PARAM, np.zeros((3, 2), np.int8))
    updater.add_all([(weight, g.input("grad", (3, 2)), 1.0)])
    if fits:
        assert scale_gradients(g.graph([], updater.updates))
        return
    with pytest.raises(ModelError, match=r"^w: its scale of .* cannot be trained with quantisation-aware scaling; expected"):
        scale_gradients(g.graph([], updater.updates))
