# SPDX-License-Identifier: Apache-2.0
"""What the learning benchmark learns: four small worlds that change after a network was trained for them.

Each task gives a float network pretrained on the world before the change (by the host twin; kept in benchmarks/out), samples of that
world for calibration, samples of the changed world to learn from, and held-back samples of it that no training sees.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from tinytrain import zoo
from tinytrain.atomic import write_bytes, write_text
from tinytrain.compiler import Options, compile_model, write
from tinytrain.data.dataset import Dataset
from tinytrain.device.project import Project
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array
from tinytrain.learn.outputs import evaluate
from tinytrain.learn.training import train_decaying
from tinytrain.learn.weights import export_learned
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
CALIBRATION = 100                                         # samples of each world that the quantiser sees


@dataclass(frozen=True, eq=False)
class World:
    """Samples in the layout of the device: before the change; after it, to learn from; after it, held back."""

    before: Dataset
    adapt: Dataset
    held: Dataset


@dataclass(frozen=True)
class Task:
    """`rates`: learning rate of each method, tuned once on another seed and on samples that are not the held-back ones."""

    name: str
    title: str
    files: tuple[str, ...]                                # under DATA
    model: Callable[[], onnx.ModelProto]
    world: Callable[[], World]
    pretrain_rate: float
    pretrain_epochs: int
    epochs: int
    rates: dict[str, float]
    equalise: bool = False                                # even out channels before quantising, as depthwise networks need it

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(file for file in self.files if not (DATA / file).is_file())


@dataclass(frozen=True)
class Start:
    """Where all methods start: the pretrained model, its int8 form, accuracy of the former in the old world and in the new one."""

    model: Path
    quantised: Path
    before: float
    shifted: float


def start(task: Task, out: Path) -> Start:
    """Pretrain and quantise, unless an earlier run left its result in `out`.

    The quantiser sees samples of both worlds, without labels: what lies far outside of the range it chose, int8 cannot hold.
    """
    folder = out / task.name
    model, quantised, accuracies = folder / "pretrained.onnx", folder / "quantised.onnx", folder / "start.json"
    if accuracies.is_file():
        return Start(model, quantised, **json.loads(accuracies.read_text(encoding="utf-8")))
    world = task.world()
    before, shifted = _pretrain(task, world, model)
    seen, _ = parts(world.before, len(world.before) * 9 // 10)
    np.savez(folder / "calibration.npz", x=np.concatenate([seen.x[:CALIBRATION], world.adapt.x[:CALIBRATION]]))
    converted = quantise_model(model, folder / "calibration.npz", lockstep.Options(equalise=task.equalise), Quiet())
    write_bytes(quantised, converted.model.SerializeToString())
    write_text(accuracies, json.dumps({"before": before, "shifted": shifted}) + "\n")
    return Start(model, quantised, before, shifted)


def start_with_norms(task: Task, out: Path) -> Path:
    """The model pretrained with its batch norms, which `start` folds, unless an earlier run left it in `out`."""
    model = out / task.name / "norms.onnx"
    if not model.is_file():
        _pretrain(task, task.world(), model, norms=True)
    return model


def _pretrain(task: Task, world: World, model: Path, norms: bool = False) -> tuple[float, float]:
    """Train the task's model for the world before, into that file; accuracy there and in the new world."""
    folder = model.parent
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "untrained.onnx", task.model().SerializeToString())
    options = Options(optimiser=Optimiser(task.pretrain_rate, momentum=0.9), fold_batchnorm=not norms)
    write(compile_model(folder / "untrained.onnx", options), model.with_suffix(""), force=True)
    project = Project.open(model.with_suffix(""))
    seen, unseen = parts(world.before, len(world.before) * 9 // 10)
    with project.session() as session:
        train_decaying(session, seen, task.pretrain_rate, task.pretrain_epochs, seed=0)
        before, shifted = (evaluate(session, samples, Quiet()).accuracy or 0.0 for samples in (unseen, world.held))
        write_bytes(model, export_learned(project, session).read_bytes())
    return before, shifted


def parts(samples: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """(the first `count` samples, the others)."""
    assert samples.y is not None
    return Dataset(samples.x[:count], samples.y[:count]), Dataset(samples.x[count:], samples.y[count:])


def new_head(model: onnx.ModelProto, classes: int) -> onnx.ModelProto:
    """The same network with a seeded, untrained last layer `dense` of that many classes."""
    initializers = {i.name: i for i in model.graph.initializer}
    features = initializers["dense.weight"].dims[1]
    weight = np.random.default_rng(0).normal(0, np.sqrt(1 / features), (classes, features)).astype(np.float32)
    for name, array in {"dense.weight": weight, "dense.bias": np.zeros(classes, np.float32)}.items():
        initializers[name].CopyFrom(numpy_helper.from_array(array, name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
    return model


def shuffled(x: Array, y: Array) -> Dataset:
    order = np.random.default_rng(0).permutation(len(y))
    return Dataset(np.ascontiguousarray(x[order], np.float32), y[order].astype(np.int32))


def turned(samples: Dataset) -> Dataset:
    """Images turned by 90 degrees."""
    return Dataset(np.ascontiguousarray(np.rot90(samples.x, axes=(1, 2))), samples.y)


def digits() -> World:
    """scikit-learn's 1,797 handwritten digits, suddenly turned."""
    from sklearn.datasets import load_digits

    found = load_digits()
    before, after = parts(shuffled(found.images[..., None] / 16, found.target), 700)
    adapt, held = parts(turned(after), 500)
    return World(before, adapt, held)


def all_of(name: str, *keys: str) -> Iterator[Array]:
    """Arrays of a set, its two parts joined: any split by speaker or recording is made here."""
    file = np.load(DATA / "sets" / name)
    return (np.concatenate([file[f"{key}_train"], file[f"{key}_test"]]) for key in keys)


def keyword() -> World:
    """Spoken digits as 49x10 MFCC: five speakers before, then a sixth one."""
    speaker = "theo"
    x, y, who = all_of("fsdd_mfcc49x10.npz", "x", "y", "spk")
    adapt, held = parts(shuffled(x[who == speaker][..., None], y[who == speaker]), 250)
    return World(shuffled(x[who != speaker][..., None], y[who != speaker]), adapt, held)


def images(which: str, first: int = 0, end: int | None = None) -> Dataset:
    """MNIST padded to 32x32 with three equal channels: `train` or `test`, from one sample to another."""
    file = np.load(DATA / "sets/mnist_subset.npz")
    padded = np.pad(file[f"x_{which}"][first:end], ((0, 0), (2, 2), (2, 2)))
    return Dataset(np.repeat(padded[..., None], 3, axis=3).astype(np.float32) / 255, file[f"y_{which}"][first:end].astype(np.int32))


def mnist() -> World:
    """MNIST, suddenly turned."""
    before, after = parts(images("train"), 2500)
    return World(before, turned(parts(after, 1500)[0]), turned(images("test")))


def har() -> World:
    """Windows of 26 accelerations without gravity: standing, walking, running; then the sensor hangs loose, with other axes.

    No recording is in two of the three parts.
    """
    x, y, recording = all_of("stm32_har26hz.npz", "x", "y", "file")
    moved = x - x.mean(axis=1, keepdims=True)
    recordings = np.random.default_rng(0).permutation(np.unique(recording))

    def windows(third: int, axes: list[int], factors: list[float]) -> Dataset:
        chosen = np.isin(recording, recordings[third::3])
        return shuffled((moved[chosen][:, :, axes] * np.array(factors, np.float32))[:, :, None], y[chosen])

    other = [1, 2, 0], [2.5, -2.5, 2.5]
    return World(windows(0, [0, 1, 2], [1.0, 1.0, 1.0]), windows(1, *other), windows(2, *other))


def digits_model() -> onnx.ModelProto:
    return zoo.model("cnn")


def har_model() -> onnx.ModelProto:
    """Two convolutions over time and two dense layers."""
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        har (float[1, 3, 26, 1] x) => (float[1, 3] y) {
            a = Conv <pads = [2, 0, 2, 0]> (x, conv1_weight, conv1_bias)
            b = Relu (a)
            c = Conv <pads = [2, 0, 2, 0], strides = [2, 1]> (b, conv2_weight, conv2_bias)
            d = Relu (c)
            e = Flatten (d)
            f = Gemm <transB = 1> (e, fc1_weight, fc1_bias)
            g = Relu (f)
            y = Gemm <transB = 1> (g, fc2_weight, fc2_bias)
        }""")
    rng = np.random.default_rng(0)
    for layer, shape in {"conv1": (16, 3, 5, 1), "conv2": (16, 16, 5, 1), "fc1": (32, 16 * 13), "fc2": (3, 32)}.items():
        weight = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, f"{layer}_weight"))
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape[0], np.float32), f"{layer}_bias"))
    return model


def keyword_model() -> onnx.ModelProto:
    return new_head(onnx.load(DATA / "models/mlperf_kws_dscnn_bn.onnx"), 10)


def mnist_model() -> onnx.ModelProto:
    """The network wants pixels of 0 to 255; here 255 is in its first weights and pixels reach 1, so that all layers learn at one rate."""
    model = new_head(onnx.load(DATA / "models/mlperf_ic_resnet8_bn.onnx"), 10)
    first = next(i for i in model.graph.initializer if i.name == "conv2d.weight")
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * np.float32(255), first.name))
    return model


TASKS = (
    Task(
        "digits", "small CNN; digits turned by 90 degrees", (), digits_model, digits, 0.003, 6, 8,
        {"fp32": 0.006, "fp32_adam": 0.01, "int8_naive": 100.0, "int8_naive_adam": 0.6, "int8_qas": 0.006, "int8_integer": 0.06},
    ),
    Task(
        "har", "small CNN; a motion sensor that hangs loose, with other axes", ("sets/stm32_har26hz.npz",), har_model, har, 0.0005, 6, 6,
        {"fp32": 0.0005, "fp32_adam": 0.01, "int8_naive": 100.0, "int8_naive_adam": 0.1, "int8_qas": 0.0005, "int8_integer": 0.003},
    ),
    Task(
        "keyword", "DS-CNN; a speaker never heard before", ("models/mlperf_kws_dscnn_bn.onnx", "sets/fsdd_mfcc49x10.npz"),
        keyword_model, keyword, 0.0003, 3, 10,
        {"fp32": 0.0003, "fp32_adam": 0.001, "int8_naive": 10.0, "int8_naive_adam": 0.1, "int8_qas": 0.0003, "int8_integer": 0.003},
        equalise=True,
    ),
    Task(
        "mnist", "ResNet-8; MNIST turned by 90 degrees", ("models/mlperf_ic_resnet8_bn.onnx", "sets/mnist_subset.npz"),
        mnist_model, mnist, 0.0003, 2, 2,
        {"fp32": 0.0007, "fp32_adam": 0.001, "int8_naive": 30.0, "int8_naive_adam": 0.3, "int8_qas": 0.0007, "int8_integer": 0.003},
    ),
)
