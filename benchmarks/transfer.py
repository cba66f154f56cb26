# SPDX-License-Identifier: Apache-2.0
"""Four networks that were trained for something else, and what they are to learn on the device; for the benchmark of sparse update.

What validates a choice is of the same world as what measures the result, other samples of it. Another speaker or other recordings tell
nothing: over schemes at their best rates, accuracy there and accuracy on held-back samples went together with r = 0.02 (7 schemes, keyword)
and −0.25 (10 schemes, har).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tasks

from tinytrain.atomic import write_bytes
from tinytrain.data.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Samples:
    """In the layout of the device: to learn from, to choose schemes and learning rates by, and to measure the result."""

    learn: Dataset
    validate: Dataset
    held: Dataset


@dataclass(frozen=True)
class Transfer:
    """`model(folder)` is the path of the network before it learns; `epochs` of all trainings, `rates` that each scheme chooses from."""

    name: str
    title: str
    files: tuple[str, ...]                                # under tasks.DATA
    model: Callable[[Path], Path]
    samples: Callable[[], Samples]
    epochs: int
    rates: tuple[float, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(file for file in self.files if not (tasks.DATA / file).is_file())


def digits() -> Samples:
    """scikit-learn's handwritten digits, turned after the network had learned them."""
    world = tasks.digits()
    return Samples(*tasks.parts(world.adapt, 350), world.held)


def keyword() -> Samples:
    """Spoken digits by four speakers to learn from, and by two others."""
    x, y, who = tasks.all_of("fsdd_mfcc49x10.npz", "x", "y", "spk")
    new = np.isin(who, np.unique(who)[-2:])
    learned, others = (tasks.shuffled(x[chosen][..., None], y[chosen]) for chosen in (~new, new))
    validate, held = tasks.parts(others, 300)
    return Samples(tasks.parts(learned, 600)[0], validate, tasks.parts(held, 500)[0])


def mnist() -> Samples:
    """MNIST padded to 32x32 with three equal channels."""
    return Samples(tasks.images("train", 0, 300), tasks.images("train", 4000, 4200), tasks.images("test", 0, 400))


def har() -> Samples:
    """Windows of 26 accelerations without gravity, of a sensor that hangs loose, with other axes; no recording that is learned from is in
    another part. The first third of the recordings are those that the network was trained with, before the change.
    """
    x, y, recording = tasks.all_of("stm32_har26hz.npz", "x", "y", "file")
    moved = (x - x.mean(axis=1, keepdims=True))[:, :, [1, 2, 0]] * np.array([2.5, -2.5, 2.5], np.float32)
    recordings = np.random.default_rng(0).permutation(np.unique(recording))

    def windows(chosen: np.ndarray) -> Dataset:
        of = np.isin(recording, chosen)
        return tasks.shuffled(moved[of][:, :, None], y[of])

    second = recordings[1::3]
    validate, held = tasks.parts(windows(np.concatenate([second[1::2], recordings[2::3]])), 1000)
    return Samples(tasks.parts(windows(second[::2]), 1000)[0], validate, tasks.parts(held, 2000)[0])


def _new_head_of(make: Callable[[], object]) -> Callable[[Path], Path]:
    def model(folder: Path) -> Path:
        path = folder / "start.onnx"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, make().SerializeToString())  # type: ignore[attr-defined]
        return path
    return model


def _pretrained(name: str) -> Callable[[Path], Path]:
    return lambda folder: tasks.start(next(task for task in tasks.TASKS if task.name == name), folder.parent).model


TRANSFERS = (
    Transfer("digits", "small CNN; digits turned by 90 degrees", (), _pretrained("digits"), digits, 8, (3e-3, 1e-2, 3e-2)),
    Transfer(
        "keyword", "DS-CNN trained for commands, a new head; digits of two speakers that it does not learn from",
        ("models/mlperf_kws_dscnn_bn.onnx", "sets/fsdd_mfcc49x10.npz"), _new_head_of(tasks.keyword_model), keyword, 4,
        (1e-3, 3e-3, 1e-2, 3e-2),
    ),
    Transfer(
        "mnist", "ResNet-8 trained for CIFAR-10, a new head; MNIST",
        ("models/mlperf_ic_resnet8_bn.onnx", "sets/mnist_subset.npz"), _new_head_of(tasks.mnist_model), mnist, 3,
        (1e-3, 3e-3, 1e-2, 3e-2),
    ),
    Transfer(
        "har", "small CNN; a motion sensor that hangs loose, with other axes", ("sets/stm32_har26hz.npz",), _pretrained("har"), har, 4,
        (3e-4, 1e-3, 3e-3),
    ),
)
