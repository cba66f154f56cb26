# SPDX-License-Identifier: Apache-2.0
"""Worlds of benchmarks/worth.py: such as change so little that a network can go on without labels, and pictures that are normal or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import tasks
from onnx import helper, numpy_helper

from tinytrain.data.dataset import Dataset
from tinytrain.device.session import Session
from tinytrain.ir.types import Array

TURN = 20.0                                               # degrees
STREAM = 900


@dataclass(frozen=True, eq=False)
class Parts:
    """Of the changed world: to learn from, to choose rates by, held back; and held back of the world before."""

    learn: Dataset
    validate: Dataset
    held: Dataset
    old: Dataset


@dataclass(frozen=True)
class Changed:
    """The network of a task, and a world that is a little different; `norms`: its batch norms are kept."""

    name: str
    title: str
    samples: Callable[[], Parts]
    norms: bool = False

    @property
    def task(self) -> tasks.Task:
        return next(task for task in tasks.TASKS if task.name == self.name)

    @property
    def hows(self) -> tuple[str, ...]:
        few = "batchnorm" if self.norms else "bias"
        kinds = [("entropy", few), ("entropy", "full"), ("pseudo", few), ("pseudo", "full")]
        kinds += [("entropy", "batchnorm and statistics")] if self.norms else []
        chosen = [f"{loss}, {scheme}, chosen samples" for loss, scheme in kinds]
        return (*chosen, *(f"entropy, {scheme}, all samples" for scheme in (few, "full")))

    def model(self, out: Path) -> Path:
        """Trained for the world before, by an earlier run or now; with its batch norms, if they are to be kept."""
        return tasks.start_with_norms(self.task, out) if self.norms else tasks.start(self.task, out).model


def missing(name: str) -> tuple[str, ...]:
    return next(task for task in tasks.TASKS if task.name == name).missing


def _unseen(task: str) -> Dataset:
    """What pretraining does not see of the world before."""
    before = next(one for one in tasks.TASKS if one.name == task).world().before
    return tasks.parts(before, len(before) * 9 // 10)[1]


def _changed(samples: Dataset, change: Callable[[Array], Array]) -> Dataset:
    return Dataset(np.ascontiguousarray(change(samples.x), np.float32), samples.y)


def _parts(samples: Dataset, counts: tuple[int, int], old: Dataset) -> Parts:
    learn, rest = tasks.parts(samples, counts[0])
    return Parts(learn, *tasks.parts(rest, counts[1]), old)


def noisy_digits() -> Parts:
    """With noise of a camera in the dark."""
    from sklearn.datasets import load_digits

    found = load_digits()
    after = tasks.parts(tasks.shuffled(found.images[..., None] / 16, found.target), 700)[1]
    noise = np.random.default_rng(1).normal(0, 0.3, after.x.shape)
    return _parts(_changed(after, lambda x: x + noise), (500, 150), _unseen("digits"))


def weak_har() -> Parts:
    """A sensor that says 0.4 of what the old one did; no recording is in two parts."""
    x, y, recording = tasks.all_of("stm32_har26hz.npz", "x", "y", "file")
    moved = np.float32(0.4) * (x - x.mean(axis=1, keepdims=True))
    recordings = np.random.default_rng(0).permutation(np.unique(recording))

    def windows(chosen: Array, count: int) -> Dataset:
        of = np.isin(recording, chosen)
        return tasks.parts(tasks.shuffled(moved[of][:, :, None], y[of]), count)[0]

    second = recordings[1::3]
    return Parts(windows(second[::2], 600), windows(second[1::2], 300), windows(recordings[2::3], 1000), _unseen("har"))


def other_speaker() -> Parts:
    """The sixth speaker, as in benchmarks/tasks.py."""
    world = tasks.keyword()
    return Parts(*tasks.parts(world.adapt, 200), world.held, _unseen("keyword"))


def foggy_mnist() -> Parts:
    """Through fog: all values between 0.4 and 1."""
    later, test = tasks.images("train", 2500, 3300), tasks.images("test", 0, 500)
    learn, validate = tasks.parts(_changed(later, _fog), 600)
    return Parts(learn, validate, _changed(test, _fog), tasks.images("test", 500, 800))


def _fog(x: Array) -> Array:
    return 0.6 * x + np.float32(0.4)


CHANGED = (
    Changed("digits", "small CNN; digits with noise", noisy_digits),
    Changed("har", "small CNN; a weaker motion sensor", weak_har),
    Changed("keyword", "DS-CNN; a speaker never heard before", other_speaker, norms=True),
    Changed("mnist", "ResNet-8; MNIST in fog", foggy_mnist, norms=True),
)


class Detector:
    """Pictures of one class, and a stream in which the camera turns slowly and, from a third of it on, half are of the next class."""

    def __init__(self, digit: int) -> None:
        rng = np.random.default_rng(digit)
        normal, other = (_small(tasks.images("train"), label) for label in (digit, digit + 1))
        self.seen = Dataset(_flat(normal[:200]), _flat(normal[:200]))
        odd = rng.random(STREAM) < np.where(np.arange(STREAM) < STREAM // 3, 0, 0.5)
        chosen = [other[rng.integers(len(other))] if is_odd else normal[rng.integers(200, len(normal))] for is_odd in odd]
        self.stream = _flat([_turned(x, TURN * i / STREAM) for i, x in enumerate(chosen)])
        self._held = [_flat([_turned(x, TURN) for x in _small(tasks.images("test"), label)]) for label in (digit, digit + 1)]

    def area(self, session: Session) -> float:
        """Under the curve of what is found over false alarms, as the camera stands in the end: how often what is not normal has the larger
        error."""
        normal, other = (errors(session, x) for x in self._held)
        return float(np.mean(other[:, None] > normal[None]))


def _small(samples: Dataset, label: int) -> Array:
    """Pictures (n, 14, 14) of a class."""
    return np.asarray(samples.x[samples.y == label % 10][:, 2:30, 2:30, 0].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)))


def _turned(x: Array, degrees: float) -> Array:
    from scipy import ndimage

    return np.asarray(ndimage.rotate(x, degrees, reshape=False, order=1))


def _flat(pictures: Sequence[Array] | Array) -> Array:
    return np.ascontiguousarray(np.reshape(pictures, (len(pictures), -1)), np.float32)


def detector(folder: Path) -> Path:
    """An untrained network 196-32-8-32-196 with ReLU."""
    rng, sizes, nodes, stored = np.random.default_rng(0), (196, 32, 8, 32, 196), [], []
    for i, (a, b) in enumerate(pairwise(sizes)):
        stored += [numpy_helper.from_array(rng.normal(0, (2 / a) ** 0.5, (b, a)).astype(np.float32), f"w{i}"),
                   numpy_helper.from_array(np.zeros(b, np.float32), f"b{i}")]
        last = i == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [f"r{i}" if i else "x", f"w{i}", f"b{i}"], ["y" if last else f"g{i}"], transB=1))
        nodes += [] if last else [helper.make_node("Relu", [f"g{i}"], [f"r{i + 1}"])]
    rows = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 196]) for name in "xy"]
    graph = helper.make_graph(nodes, "detector", rows[:1], rows[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "detector.onnx").write_bytes(model.SerializeToString())
    return folder / "detector.onnx"


def errors(session: Session, samples: Array) -> Array:
    """Of each sample, as a detector gives it back."""
    return np.array([session.evaluate(x, x)[0] for x in samples])
