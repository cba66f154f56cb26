# SPDX-License-Identifier: Apache-2.0
"""Samples for a compiled project: of a file, or a program's arrays, in the layout of its device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinytrain.data.dataset import Dataset, Labels, NoTargets, Target, Vectors
from tinytrain.data.file import DataFile
from tinytrain.data.given import Given, Source, dataset, dataset_of_records
from tinytrain.data.layout import Layout
from tinytrain.device.manifest import Manifest, Port
from tinytrain.device.project import Project
from tinytrain.errors import DataError
from tinytrain.ir.types import S32, Array, DType
from tinytrain.learn.state import LEARNED, Record, read_record
from tinytrain.learn.unlabelled import labelled, stand_ins
from tinytrain.report.live import Progress, Quiet
from tinytrain.report.samples import say_how_read

BALANCED = "--balanced"


def load(
    project: Project, source: Source, which: str, limit: int | None = None, *, targets: bool = True, progress: Progress | None = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """The samples of a source in the layout of the project's device; without `targets` only the samples are read. Says how it was read.

    `classes` are the names that labels are known by; None: those of the project, or else of the samples that it was trained with.
    """
    record = record_of(project) if classes is None else None
    known = classes or project.manifest.classes or (record.classes if record else ())
    found = _found(project.manifest, source, which, targets, known)
    if progress is not None:
        say_how_read(found, progress)
        if record is not None and record.scaling not in ("", scaling := scaling_of(source)):
            progress.say(f"warning    the project was trained with values {record.scaling}; here they are {scaling}")
    return found.some(slice(limit))


def record_of(project: Project) -> Record | None:
    """How the project was trained; None where it was not, or with another model."""
    record = read_record(project.folder / LEARNED)
    return record if record is not None and record.model_sha256 == project.manifest.model_sha256 else None


def scaling_of(source: Source) -> str:
    """What becomes of the values of a file; "" where there is none."""
    return "" if isinstance(source, Given) else DataFile.of(source).scaling_text()


def load_with_targets(
    project: Project, source: Source, which: str, limit: int | None, progress: Progress, classes: Sequence[str] | None = None
) -> Dataset:
    """Samples for a loss. Raises DataError where the project has none, or the samples no targets, or where there are labels to learn from
    that the loss does not read.
    """
    if project.manifest.target is None:
        message = f"{project.folder} was compiled for inference only; expected a project with a loss."
        raise DataError(message, hint="Compile it with --loss ce (or mse, bce).")
    if not labelled(project.manifest):
        return _without_labels(project, source, which, limit, progress, classes)
    samples = load(project, source, which, limit, progress=progress, classes=classes)
    if samples.y is None:
        raise DataError(f"{source} has no targets.", hint="An .npz needs y beside x.")
    return samples


def _without_labels(
    project: Project, source: Source, which: str, limit: int | None, progress: Progress, classes: Sequence[str] | None
) -> Dataset:
    """Samples for a loss that reads no labels; those that only measure may have some."""
    try:
        samples = load(project, source, which, limit, progress=Quiet(), classes=classes)
    except NoTargets:
        samples = None
    if samples is None or samples.y is None:
        return stand_ins(load(project, source, which, limit, targets=False, progress=progress))
    if which == "train":
        message = f"{source} has labels, which --loss {project.manifest.loss} of {project.folder} does not read."
        raise DataError(message, hint="Leave them out (an .npz without y), or compile with --loss ce to learn from them.")
    say_how_read(samples, progress)
    return samples


def load_for_outputs(project: Project, source: Source, which: str, limit: int | None, progress: Progress) -> Dataset:
    """Samples whose targets are welcome and not needed; says why it cannot use those that are there."""
    try:
        return load(project, source, which, limit, progress=progress)
    except DataError as error:
        samples = load(project, source, which, limit, targets=False, progress=progress)
        if not isinstance(error, NoTargets):
            progress.say(f"accuracy   unknown: {error.sentences[0]}")
        return samples


def split(samples: Dataset, part: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """(training samples, held-back samples): a seeded choice that does not depend on the epoch."""
    assert samples.y is not None
    order = np.random.default_rng((seed, 0)).permutation(len(samples))
    cut = len(order) - int(len(order) * part)
    keep, hold = order[:cut], order[cut:]
    return samples.some(keep), samples.some(hold) if len(hold) else None


def classes_of(samples: Dataset, option: str) -> list[Array]:
    """The samples of each class that there are any of, by index. Raises DataError where targets are no labels, as an option wants them."""
    if samples.y is None or samples.y.ndim != 1 or samples.y.dtype.kind != "i":
        raise DataError(f"{option} balances classes, and these targets are no labels; expected one label a sample.", hint="Leave it out.")
    return [np.flatnonzero(samples.y == label) for label in np.unique(samples.y)]


def order_of(samples: Dataset, seed: int, epoch: int, *, balanced: bool = False) -> Array:
    """The order of samples in an epoch, by index, as many as there are: only (seed, epoch) decides it.

    `balanced`: of each class as many, but for one; of a frequent class some are left out, another choice in each epoch, and those of a rare
    one come again when all of it were there.
    """
    chance = np.random.default_rng((seed, epoch))
    if not balanced:
        return chance.permutation(len(samples))
    classes = classes_of(samples, BALANCED)
    shares = np.full(len(classes), len(samples) // len(classes))
    shares[chance.permutation(len(classes))[: len(samples) % len(classes)]] += 1
    drawn = [
        np.concatenate([chance.permutation(one) for _ in range(-(-share // len(one)))])[:share]
        for one, share in zip(classes, shares, strict=True)
    ]
    return chance.permutation(np.concatenate(drawn))


def _found(manifest: Manifest, source: Source, which: str, targets: bool, classes: Sequence[str]) -> Dataset:
    if manifest.input.parts or manifest.output.parts:
        outputs = dict(manifest.output.parts)
        wanted = {part.name: _wanted(part.dtype, outputs[part.name]) for part in manifest.targets} if targets else {}
        if targets and not outputs and manifest.target is not None:
            wanted = {"y": _wanted(manifest.target, manifest.output)}
        inputs = manifest.input.parts or (("x", manifest.input),)
        found = dataset_of_records(source, {name: _layout(port) for name, port in inputs}, wanted, split=which)
        if found.y is None or outputs:
            return found
        # the target of a single output is no record
        return replace(found, y=found.y[:, 0].astype(np.int32) if manifest.target is S32 else found.y.reshape(-1, *manifest.output.shape))
    kind = _wanted(manifest.target, manifest.output) if targets and manifest.target is not None else None
    return dataset(source, _layout(manifest.input), kind, split=which, classes=classes)


def _wanted(dtype: DType, output: Port) -> Target:
    """What goes with an output whose target is of this type."""
    return Labels(math.prod(output.shape)) if dtype is S32 else Vectors(_layout(output))


def _layout(port: Port) -> Layout:
    """A batch of one stands in front of the axes that are put in order; an output may have lost it."""
    return Layout(port.onnx_shape[len(port.onnx_shape) - len(port.perm) :], port.perm)
