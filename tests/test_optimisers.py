# SPDX-License-Identifier: Apache-2.0
"""Optimisers, clipping, rates and schedules: a linear model on the host twin moves as float64 from the papers and from PyTorch's pages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import sentence
from numpy_device import on_numpy
from onnx_models import ModelMaker
from quant_models import int8_dense
from test_ops_reference import node_tests

import tinytrain
from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, describe, write
from tinytrain.device.manifest import Manifest
from tinytrain.device.project import Project
from tinytrain.device.session import Session
from tinytrain.errors import DataError, ModelError, SchemeError
from tinytrain.gradient.update import Kind, Optimiser
from tinytrain.ir.types import Array
from tinytrain.ops.adam import Adam
from tinytrain.ops.adaptive import Adagrad
from tinytrain.ops.direction import Direction
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.schedule import Schedule
from tinytrain.verify.reference import ReferenceModel

STEPS, INPUTS, OUTPUTS = 12, 5, 3
RATE = 0.05


@dataclass
class Torch:
    """torch.optim of one parameter, from its pages, in float64."""

    rule: Optimiser
    kept: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def step(self, w: Array, g: Array, rate: float) -> Array:
        rule, kept, self.count = self.rule, self.kept, self.count + 1
        decay, get = rule.weight_decay, kept.get
        if rule.kind == "adamw":
            w, decay = w * (1 - rate * decay), 0.0
        g = g + decay * w
        if rule.kind in ("adam", "adamw"):
            kept["m"], kept["v"] = 0.9 * get("m", 0) + 0.1 * g, 0.999 * get("v", 0) + 0.001 * g * g
            m, v = kept["m"] / (1 - 0.9**self.count), kept["v"] / (1 - 0.999**self.count)
            return np.asarray(w - rate * m / (np.sqrt(v) + 1e-8))
        if rule.kind == "adagrad":
            kept["h"] = get("h", 0) + g * g
            return np.asarray(w - rate * g / (np.sqrt(kept["h"]) + 1e-10))
        if rule.kind == "rmsprop":
            kept["v"] = 0.99 * get("v", 0) + 0.01 * g * g
            g = g / (np.sqrt(kept["v"]) + 1e-8)
        kept["b"] = rule.momentum * get("b", 0) + g
        return np.asarray(w - rate * (g + rule.momentum * kept["b"] if rule.nesterov else kept["b"]))


def rates(schedule: Schedule, step: int) -> float:
    """The rate of update 0, 1, …"""
    if step < schedule.warmup:
        return RATE * (step + 1) / schedule.warmup
    step -= schedule.warmup
    if schedule.course == "table":
        return RATE * dict(schedule.table)[max(start for start, _ in schedule.table if start <= step)]
    if schedule.course == "cosine":
        part = min(step / (schedule.steps - schedule.warmup), 1)
        return schedule.least + (RATE - schedule.least) / 2 * (1 + math.cos(math.pi * part))
    return max(RATE * schedule.factor ** (step // schedule.steps), schedule.least) if schedule.course == "step" else RATE


OPTIMISERS = {
    "adam": Optimiser(RATE, kind="adam", weight_decay=0.1),
    "adamw": Optimiser(RATE, kind="adamw", weight_decay=0.1),
    "adagrad": Optimiser(RATE, kind="adagrad", weight_decay=0.1),
    "adagrad sums": Optimiser(RATE, kind="adagrad", accumulate=2, bias_factor=0.5),
    "rmsprop": Optimiser(RATE, kind="rmsprop"),
    "rmsprop momentum": Optimiser(RATE, momentum=0.8, kind="rmsprop", weight_decay=0.1),
    "clip value": Optimiser(RATE, momentum=0.5, clip_value=0.4, weight_decay=0.1),
    "clip value sums": Optimiser(RATE, clip_value=0.4, accumulate=2, kind="adam"),
    "clip norm": Optimiser(RATE, momentum=0.5, nesterov=True, clip_norm=0.7, weight_decay=0.1),
    "clip norm sums": Optimiser(RATE, clip_norm=0.7, accumulate=3, kind="rmsprop"),
    "step": Optimiser(RATE, schedule=Schedule("step", 2, 3, 0.5, 0.01)),
    "cosine": Optimiser(RATE, kind="adamw", schedule=Schedule("cosine", 3, 10, least=0.002), accumulate=2),
    "warm-up": Optimiser(RATE, momentum=0.9, schedule=Schedule(warmup=5)),
    "table": Optimiser(RATE, schedule=Schedule("table", table=((0, 0.1), (2, 1.0), (5, 0.3)))),
}


def linear(folder: Path, **options: Any) -> Compiled:
    """y = w0·x + w1 with a squared error, compiled for the host."""
    maker = ModelMaker(1, INPUTS)
    maker.dense(OUTPUTS, INPUTS)
    (folder / "linear.onnx").write_bytes(maker.model().SerializeToString())
    return compile_model(folder / "linear.onnx", Options(**{"loss": "mse", "exact_seconds": 0.0, **options}))


def wanted(optimiser: Optimiser, w: Array, b: Array, xs: Array, ts: Array, factor: float = 1.0) -> tuple[list[Array], list[Array]]:
    """w and b after each update, in float64; `factor` multiplies the rate of the layer."""
    rules, found = (Torch(optimiser), Torch(optimiser)), ([w], [b])
    for step in range(STEPS):
        grads = [np.zeros_like(w), np.zeros_like(b)]
        for i in range(step * optimiser.accumulate, (step + 1) * optimiser.accumulate):
            dy = 2 / OUTPUTS * (found[0][-1] @ xs[i] + found[1][-1] - ts[i]) / optimiser.accumulate
            grads = [grads[0] + np.outer(dy, xs[i]), grads[1] + dy]
        if optimiser.clip_value:
            grads = [np.clip(g, -optimiser.clip_value, optimiser.clip_value) for g in grads]
        if optimiser.clip_norm:
            norm = math.sqrt(sum(np.square(g).sum() for g in grads))
            grads = [g * min(1, optimiser.clip_norm / norm) for g in grads]
        rate = rates(optimiser.schedule, step) * factor
        for values, rule, grad, share in zip(found, rules, grads, (1, optimiser.bias_factor), strict=True):
            values.append(rule.step(values[-1], grad, rate * share))
    return found[0][1:], found[1][1:]


def trained(compiled: Compiled, twin: Path | None, xs: Array, ts: Array) -> list[dict[str, Array]]:
    """Parameters before and after each sample: by the reference, or by the C of the host."""
    if twin is None:
        model = ReferenceModel(compiled.program)
        return [model.parameters(), *({**model.parameters()} for x, t in zip(xs, ts, strict=True) if model.train_step(x, t) >= 0)]
    write(compiled, twin)
    with Project.open(twin).session() as session:
        return [session.get_params(), *(session.get_params() for x, t in zip(xs, ts, strict=True) if session.train_step(x, t).loss >= 0)]


TWINS = ("rmsprop momentum", "clip value", "clip norm sums", "step", "cosine")


@pytest.mark.parametrize(("name", "twin"), [*((name, False) for name in OPTIMISERS), *((name, True) for name in TWINS)])
def test_trace_equals_float64(name: str, twin: bool, tmp_path: Path) -> None:
    optimiser = OPTIMISERS[name]
    rng = np.random.default_rng(0)
    xs, ts = (rng.normal(size=(STEPS * optimiser.accumulate, n)).astype(np.float32) for n in (INPUTS, OUTPUTS))
    start, *learned = trained(linear(tmp_path, optimiser=optimiser), tmp_path / "project" if twin else None, xs, ts)
    ws, bs = wanted(optimiser, start["w0"].reshape(OUTPUTS, INPUTS).astype(float), start["w1"].astype(float).ravel(), xs, ts)
    for step, found in enumerate(learned[optimiser.accumulate - 1 :: optimiser.accumulate]):
        np.testing.assert_allclose(found["w0"].reshape(OUTPUTS, INPUTS), ws[step], rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(found["w1"].ravel(), bs[step], rtol=2e-4, atol=2e-5)
    assert np.abs(ws[-1] - ws[0]).max() > 0.05, "nothing moves: the test shows nothing"


def test_the_norm_is_one_of_all_and_keeps_the_gradients(tmp_path: Path) -> None:
    """Every gradient waits for the last, and the plan has room for them; with sums of gradients they stand there anyway."""
    (tmp_path / "mlp.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    plain, clipped, value = (
        compile_model(tmp_path / "mlp.onnx", Options(optimiser=Optimiser(0.01, **kept), exact_seconds=0.0))  # type: ignore[arg-type]
        for kept in ({}, {"clip_norm": 1.0}, {"clip_value": 1.0})
    )
    gradients = sum(4 * math.prod(p["shape"]) for p in describe(plain)["parameters"])
    assert clipped.plan.arena_bytes >= plain.plan.arena_bytes + gradients // 2
    assert value.plan.arena_bytes == plain.plan.arena_bytes
    apart = [node for node in value.program.entries["train"].nodes if node.op.name == "clip_gradient" and len(node.outputs[0].shape) > 1]
    assert not apart, "it runs where the gradient of a weight is made"


# name -> op that makes the direction; norm_coefficient is weight decay. T is 0 there: no correction of moments, which ours has less and
# less of as t grows; no decay of the rate, which is the schedule's here.
ONNX: dict[str, Callable[..., Direction | None]] = {
    "adagrad": lambda a: Adagrad(a["epsilon"], decay=a["norm_coefficient"]),
    "adagrad_multiple": lambda a: Adagrad(a["epsilon"], decay=a["norm_coefficient"]),
    "adam": lambda a: Adam(a["alpha"], a["beta"], a["epsilon"], decay=a["norm_coefficient"]),
    "adam_multiple": lambda a: Adam(a["alpha"], a["beta"], a["epsilon"], decay=a["norm_coefficient"]),
    "momentum": lambda a: None, "momentum_multiple": lambda a: None, "nesterov_momentum": lambda a: None,
}


@pytest.mark.parametrize("name", ONNX)
def test_onnx_training_ops(name: str) -> None:
    """Cases of ai.onnx.preview.training: R, T, then all X, all G, all of each state; outputs all X, all of each state."""
    test = node_tests()[name]
    attributes = {a.name: a.f or a.s for a in test.model.graph.node[0].attribute}
    (inputs, outputs), (rate, step) = test.data_sets[0], test.data_sets[0][0][:2]
    assert step == 0
    direction = ONNX[name](attributes)
    kinds = len(direction.keeps) if direction else 1
    count = (len(inputs) - 2) // (2 + kinds)
    groups = [inputs[2 + i * count : 2 + (i + 1) * count] for i in range(2 + kinds)]
    wants = [outputs[i * count : (i + 1) * count] for i in range(1 + kinds)]
    lr = np.array([rate], np.float32)
    for (x, g, *kept), want in zip(zip(*groups, strict=True), zip(*wants, strict=True), strict=True):
        if direction:
            more = [np.array([10**6], np.int32)] * len(direction.ones)
            along, *new = direction.reference(g, *kept, *more, x)
            got = [*Sgd().reference(along, x, lr), *new]
        else:
            nesterov = attributes["mode"] == b"nesterov"
            got = [*Sgd(attributes["alpha"], nesterov, attributes["norm_coefficient"]).reference(g, x, lr, *kept)]
        for made, right in zip(got, want, strict=True):
            np.testing.assert_allclose(made, right, rtol=1e-5, atol=1e-6)


def test_weight_decay_of_integers_goes_beside_what_is_kept(tmp_path: Path) -> None:
    path = int8_dense(tmp_path)
    kinds: tuple[Kind, ...] = ("adam", "adagrad", "rmsprop")
    for kind in kinds:
        compile_model(path, Options(optimiser=Optimiser(kind=kind), exact_seconds=0.0))
        with pytest.raises(ModelError, match=f"stored as integers: weight decay cannot go through what --optimiser {kind} keeps of it"):
            compile_model(path, Options(optimiser=Optimiser(kind=kind, weight_decay=0.1)))
    compile_model(path, Options(optimiser=Optimiser(kind="adamw", weight_decay=0.1), exact_seconds=0.0))


def test_rates_of_layers(tmp_path: Path) -> None:
    """As a scheme file says them, and in its place on the command line."""
    layer = next(iter(linear(tmp_path).schemes[0].layers))
    (tmp_path / "s.toml").write_text(f'[layers."{layer}"]\nweight = true\nbias = true\nrate = 0.5\n')
    steps = []
    for compiled in (linear(tmp_path, scheme=str(tmp_path / "s.toml")), linear(tmp_path, rates={layer: 0.25})):
        ops = [op for node in compiled.program.entries["train"].nodes for op in (node.op, *getattr(node.op, "then", ()))]
        steps.append([op.scale for op in ops if isinstance(op, Sgd)])
    assert steps == [[0.5, 0.5], [0.25, 0.25]]
    with pytest.raises(SchemeError, match=r"--rate is given for layer 'nothing', which linear does not have.\nNearest names: "):
        linear(tmp_path, rates={"nothing": 1.0})
    with pytest.raises(SchemeError, match=r"--rate: layer '.*' has the rate -1.0; expected a number: 0, or 1e-06 to 1,000,000."):
        linear(tmp_path, rates={layer: -1.0})


@pytest.mark.parametrize(("options", "said"), [
    (("--optimiser", "adagrad", "--momentum", 0.9), "--momentum is that of SGD and RMSProp; expected none with --optimiser adagrad."),
    (("--optimiser", "rmsprop", "--momentum", 0.9, "--nesterov"), "--nesterov is that of SGD; expected none with --optimiser rmsprop."),
    (("--clip-value", 1, "--clip-norm", 1), "--clip-value and --clip-norm are both given; expected one."),
    (("--clip-norm", 0), "0.0 is not in the range"), (("--clip-value", "nan"), "nan is not a finite number"),
    (("--schedule", "cosine"), "--schedule cosine is given without --schedule-steps; expected a number of updates."),
    (("--schedule-steps", 5), "--schedule-steps has no effect with --schedule constant; expected step or cosine."),
    (("--lr-min", 0.001), "--lr-min has no effect with --schedule constant"),
    (("--schedule", "cosine", "--schedule-steps", 5, "--schedule-factor", 0.5), "--schedule-factor has no effect with --schedule cosine"),
    (("--schedule", "cosine", "--schedule-steps", 5, "--warmup", 5), "--schedule-steps 5 ends the cosine before --warmup 5 does"),
    (("--schedule", "step", "--schedule-steps", 5, "--lr-min", 1), "--lr-min 1 lies above --lr 0.01; expected that or less."),
    (("--schedule", "table:"), "--schedule table:: expected UPDATE=FACTOR between commas, found ''."),
    (("--schedule", "table:0=1,,500=0.3"), "--schedule table:0=1,,500=0.3: expected UPDATE=FACTOR between commas, found ''."),
    (("--schedule", "table:100=1,500=0.3"), "it does not say what updates 0 to 99 are multiplied by.\nBegin it with 0=1."),
    (("--schedule", "table:0=1,500=0.3,200=0.1"), "update 200 stands behind 500; expected updates in rising order."),
    (("--schedule", "table:0=1,500=0.3,500=0.1"), "update 500 stands behind 500; expected updates in rising order."),
    (("--schedule", "table:0=1,500=-1"), "expected UPDATE=FACTOR between commas, found '500=-1'."),
    (("--schedule", "table:0=1,9999999999=1"), "9999999999=1 is beyond update 1,073,741,824 or factor 1e+06."),
    (("--schedule", "table:" + ",".join(f"{i}=1" for i in range(65))), "it has 65 entries; expected 64 at most."),
    (("--schedule", "table:0=1", "--warmup", 5), "--warmup has no effect with --schedule table; expected constant or step or cosine."),
    (("--schedule", "table:0=1", "--schedule-steps", 5), "--schedule-steps has no effect with --schedule table; expected step or cosine."),
    (("--rate", "fc"), "--rate fc: expected LAYER=FACTOR."),
])
def test_options_that_do_not_fit(options: tuple[object, ...], said: str) -> None:
    assert said in sentence("compile", "model.onnx", "-o", "out", *options)


def test_a_schedule_of_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It sets the rate of each update, through all epochs, and is part of what goes on; the device's own is not to be disturbed.

    Behind each epoch the device has its own rate back, which is kept with what it learned.
    """
    rng, said = np.random.default_rng(0), list[float]()
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(8, INPUTS)).astype(np.float32), y=rng.normal(size=(8, OUTPUTS)).astype(np.float32))

    def train(optimiser: Optimiser, **plan: Any) -> None:
        compiled = linear(tmp_path, optimiser=optimiser)
        write(compiled, tmp_path / "project", force=True)
        on_numpy(monkeypatch, compiled)
        go_on(**plan)

    def go_on(**plan: Any) -> None:
        with tinytrain.open(tmp_path / "project").device() as device:
            device.train(tmp_path / "data.npz", keep=True, **plan)

    plain, schedule = Session.set_lr, Schedule("cosine", 2, 6, least=0.01)
    monkeypatch.setattr(Session, "set_lr", lambda self, rate: (said.append(rate), plain(self, rate))[1])
    course = {"schedule": "cosine", "warmup": 2, "schedule_steps": 6, "lr_min": 0.01}
    train(Optimiser(RATE, accumulate=2), epochs=2, **course)
    of_all = [rates(schedule, update) for update in range(8)]
    assert said == pytest.approx([*of_all[:4], RATE, *of_all[4:], RATE])
    with np.load(tmp_path / "project" / "learned.npz") as learned:
        assert learned["state/learning_rate"] == np.float32(RATE)
    go_on(epochs=3, resume=True, **course)
    assert said[10:] == pytest.approx([*[0.01] * 4, RATE])
    was = "--schedule cosine --warmup 2 --schedule-steps 6 --lr-min 0.01"
    with pytest.raises(DataError, match=f"was trained with {was}; found --schedule none."):
        go_on(epochs=4, resume=True, schedule="constant")
    said.clear()
    train(Optimiser(RATE, accumulate=2), epochs=2)
    falling = Schedule("cosine", 0, 8)
    of_all = [rates(falling, update) for update in range(8)]
    assert said == pytest.approx([*of_all[:4], RATE, *of_all[4:], RATE]), "without a word it falls over all epochs"
    said.clear()
    train(Optimiser(RATE, accumulate=2), epochs=2, schedule="table:0=0.5,3=1,7=0.25")
    assert said == pytest.approx([0.5 * RATE] * 3 + [RATE, RATE] + [RATE] * 3 + [0.25 * RATE, RATE])
    with pytest.raises(DataError, match=r"was trained with --schedule table:0=0\.5,3=1,7=0\.25; found --schedule table:0=0\.5\."):
        go_on(epochs=4, resume=True, schedule="table:0=0.5")
    with pytest.raises(DataError, match=r"--warmup 8 leaves none of the 8 updates in which the learning rate falls\."):
        train(Optimiser(RATE, accumulate=2), epochs=2, warmup=8)
    said.clear()
    train(Optimiser(RATE, schedule=Schedule(warmup=2)))
    assert not said
    with pytest.raises(DataError, match=r"was compiled with a schedule of the learning rate, which the device follows"):
        train(Optimiser(RATE, schedule=Schedule(warmup=2)), **course)
    with pytest.raises(DataError, match=r"which the device follows"):
        train(Optimiser(RATE, schedule=Schedule(warmup=2)), schedule="constant")


def test_the_manifest_tells_one_training_from_another(tmp_path: Path) -> None:
    """`--resume` goes by it."""
    others = ({"clip_norm": 1.0}, {"clip_value": 1.0}, {"schedule": Schedule(warmup=3)}, {"kind": "rmsprop"})
    rules = [Optimiser(), *(Optimiser(**other) for other in others)]  # type: ignore[arg-type]
    chosen = [Manifest.of(describe(linear(tmp_path, optimiser=rule)), tmp_path).chosen for rule in rules]
    assert len(set(chosen)) == len(rules)
