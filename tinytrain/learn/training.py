# SPDX-License-Identifier: Apache-2.0
"""Long work on a device: training over epochs with checkpoints, evaluation, inference. Samples are streamed one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.atomic import uninterrupted, write_bytes, write_text
from tinytrain.data.dataset import Dataset, Labels, Layout, NoTargets, Target, Vectors, load_dataset
from tinytrain.data.several import load_records
from tinytrain.device.manifest import Manifest, Port
from tinytrain.device.project import Project
from tinytrain.errors import DataError, DeviceError, OutputError
from tinytrain.ir.text import op_text
from tinytrain.ir.types import S32, Array, DType
from tinytrain.learn.export import check_export
from tinytrain.learn.state import LEARNED, Epoch, Record, Settings, epoch_text, npz, samples_digest
from tinytrain.learn.weights import parameters, restore, save
from tinytrain.learn.yardstick import HINT, Diverged, Yardstick
from tinytrain.ops.schedule import Schedule
from tinytrain.report.live import Progress, Quiet

if TYPE_CHECKING:
    from tinytrain.device.session import Session

HISTORY = "history.json"                                  # the record of learned.npz, for people to read

@dataclass(frozen=True)
class Plan:
    """How to train; `limit` uses the first samples only, `holdout` is the part kept for validation where no file is given.

    Samples with a loss below `skip_below` cost their forward pass only; `scheme` is one of those that the project was compiled with.
    `schedule` sets the learning rate of each update from here, for firmware without one of its own.
    `resume` goes on behind the last finished epoch; with `changed` also where data or settings are others than they were.
    """

    epochs: int = 1
    learning_rate: float | None = None
    seed: int = 0
    resume: bool = False
    changed: bool = False
    limit: int | None = None
    holdout: float = 0.1
    timeout: float = 60.0
    skip_below: float = 0.0
    scheme: int = 0
    schedule: Schedule = field(default_factory=Schedule)


def train_project(project: Project, data: Path, validation: Path | None, plan: Plan, progress: Progress) -> list[Epoch]:
    """Train a compiled project on its board; after each epoch `learned.npz`, `learned.onnx` and `history.json` are up to date.

    Raises DataError for unusable data, DeviceError where the device fails, Diverged where training made things worse; what earlier
    epochs or an earlier training learned is then on disk.
    """
    samples = _with_targets(project, data, "train", plan.limit, progress)
    accumulate = project.manifest.accumulate
    held = load(project, validation, "test", progress=progress) if validation else None
    settings = _settings(project, samples, held, plan)
    if held is None and plan.holdout > 0:
        samples, held = split(samples, plan.holdout, plan.seed)
    if len(samples) < accumulate:
        message = f"{data} gives {len(samples):,} samples to train with; {project.folder} makes one update from {accumulate:,}."
        raise DataError(message, hint="Give more samples, a smaller --holdout, or compile with a smaller --accumulate.")
    with project.session(timeout=plan.timeout) as session:
        if project.port is not None:
            session.reset()                               # a real board has kept what it learned before
        record = _resume(project, session) if plan.resume else None
        if record is not None:
            if plan.learning_rate is None:
                settings["--lr"] = record.settings.get("--lr")      # part of the state that is back in the device
            if not plan.changed:
                _check_same(project, record, settings)
        if plan.learning_rate is not None:
            session.set_lr(plan.learning_rate)
        rate = _course(project, plan, settings["--lr"])
        session.set_skip_below(plan.skip_below)
        yardstick = Yardstick.of(project, session, samples, plan.seed, record.before if record else None)
        record = Record(project.manifest.model_sha256, settings, yardstick.before, record.epochs if record else ())
        if record.epochs:
            _checkpoint(project, session, record)         # what is written from the record may be behind it
        if len(record.epochs) >= plan.epochs:
            progress.say(f"trained    {len(record.epochs)} epochs already; --epochs {plan.epochs} asks for no more")
        worse: str | None = None
        for number in range(len(record.epochs) + 1, plan.epochs + 1):
            session.set_scheme(plan.scheme)               # drops what an epoch with samples left out has summed in vain
            epoch = train_epoch(session, samples, held, number, plan.seed, progress, accumulate, rate)
            record = replace(record, epochs=(*record.epochs, epoch))
            worse = yardstick.worse(session, epoch, already=worse is not None)
            if worse is None:
                _checkpoint(project, session, record)
            progress.say(f"{epoch_text(epoch, plan.epochs)}{'   worse than before: not saved' if worse else ''}")
        if worse is not None:
            raise Diverged(f"{project.folder} got worse by training: {worse}; what was learned since then is dropped.", hint=HINT)
        for name, part in label_accuracies(project.manifest, session, held or samples).items():
            progress.say(f"accuracy   {part:.2%} of output {name}")
        check_export(project, session, (held or samples).x, progress.say)
    for name in (HISTORY, LEARNED, "learned.onnx"):
        progress.say(f"{name.split('.')[1]:<10} {project.folder / name}")
    return [*record.epochs]


def train_epoch(
    session: Session, samples: Dataset, held: Dataset | None, number: int, seed: int, progress: Progress, accumulate: int = 1,
    rate: Callable[[int], float] | None = None,
) -> Epoch:
    """One pass in an order that only (seed, number) decides, then a pass over the validation samples.

    With gradients accumulated over N samples the last few that make no update are left out of this epoch, so that a checkpoint
    never falls between two updates. `rate` gives the learning rate of an update, counted from 0 in the first epoch.
    """
    assert samples.y is not None
    began = time.monotonic()
    order = np.random.default_rng((seed, number)).permutation(len(samples))
    order = order[: len(order) - len(order) % accumulate]
    skipped, overflowed = _left_out(session)
    progress.start(f"epoch {number}", len(order))
    total, counted = 0.0, 0
    for done, i in enumerate(order, start=1):
        if rate is not None and (done - 1) % accumulate == 0:
            session.set_lr(rate(((number - 1) * len(order) + done - 1) // accumulate))
        loss = session.train_step(samples.x[i], samples.y[i]).loss
        if math.isfinite(loss):
            total, counted = total + loss, counted + 1
        progress.advance(f"loss {total / max(counted, 1):.4f}")
        if not math.isfinite(loss) and overflowed is None:
            message = f"The loss is not finite after {done} samples of epoch {number}; what was learned in this epoch is dropped."
            raise Diverged(message, hint="Train with a lower learning rate (--lr).")
    accuracy, held_loss = evaluate(session, held, progress) if held is not None else (None, None)
    all_skipped, all_overflowed = _left_out(session)
    return Epoch(
        number, total / max(counted, 1), accuracy, held_loss, len(order), time.monotonic() - began, all_skipped - skipped,
        (all_overflowed or 0) - (overflowed or 0),
    )


def _left_out(session: Session) -> tuple[int, int | None]:
    """Samples so far whose loss was below the threshold, and such whose loss or gradients overflowed: None where that is not looked at."""
    scale = session.scale()
    return session.counters().skipped, scale.overflowed if scale else None


def _course(project: Project, plan: Plan, chosen: str | float | None) -> Callable[[int], float] | None:
    """The learning rate of each update; None where the device has it. Raises DataError where both would change it."""
    if not plan.schedule.changes:
        return None
    if project.manifest.scheduled:
        message = f"{project.folder} was compiled with a schedule of the learning rate, which the device follows; expected no other one."
        raise DataError(message, hint="Leave out --schedule and --warmup here, or there.")
    base = np.array([project.manifest.learning_rate if chosen is None else chosen], np.float64)
    return lambda update: float(plan.schedule.reference(base, np.array([update + 1]))[0][0])


def evaluate(session: Session, samples: Dataset, progress: Progress) -> tuple[float | None, float | None]:
    """(accuracy, mean loss) without learning; accuracy is None where the targets are no labels."""
    assert samples.y is not None
    progress.start("evaluate", len(samples))
    hits, total = 0, 0.0
    labels = samples.y.dtype.kind == "i"
    for done, (x, target) in enumerate(zip(samples.x, samples.y, strict=True), start=1):
        loss, output = session.evaluate(x, target)
        total += loss
        hits += int(labels and int(np.argmax(output)) == int(target))
        progress.advance(f"accuracy {hits / done:.1%}" if labels else f"loss {total / done:.4f}")
    count = max(len(samples), 1)
    return (hits / count if labels else None), total / count


def label_accuracies(manifest: Manifest, session: Session, samples: Dataset) -> dict[str, float]:
    """Of a model with several outputs: the accuracy of each whose targets are labels."""
    if samples.y is None or not any(part.dtype is S32 for part in manifest.targets):
        return {}
    rows = manifest.output.apart(np.array([session.infer(x) for x in samples.x]))
    outputs = {name: row.reshape(len(row), -1) for (name, _), row in zip(manifest.output.parts, rows, strict=True)}
    targets = np.split(samples.y, np.cumsum([part.count for part in manifest.targets])[:-1], axis=1)
    return {
        part.name: float(np.mean(outputs[part.name].argmax(axis=1) == target[:, 0]))
        for part, target in zip(manifest.targets, targets, strict=True) if part.dtype is S32
    }


def infer_project(
    project: Project, data: Path, progress: Progress, *, learned: bool, limit: int | None, output: Path | None, timeout: float
) -> Array:
    """Outputs (n, ...) in ONNX layout for the samples of a file; says the accuracy where the file has labels."""
    if output is not None and not output.parent.is_dir():
        raise OutputError(f"{output} cannot be written: there is no folder {output.parent}.", hint="Make it, or choose another -o.")
    try:
        samples = load(project, data, "test", limit, progress=progress)
    except DataError as error:
        samples = load(project, data, "test", limit, targets=False, progress=progress)
        if not isinstance(error, NoTargets):
            progress.say(f"accuracy   unknown: {error.sentences[0]}")
    port = project.manifest.output
    layout = _layout(port)
    with project.session(timeout=timeout) as session:
        if learned:
            restore(project, session)
        progress.start("infer", len(samples))
        rows = []
        for x in samples.x:
            rows.append(_shaped(session.infer(x), layout.device_shape))
            progress.advance("")
    outputs = np.array(rows, np.float32).reshape(len(rows), *layout.device_shape)
    outputs = outputs.transpose(0, *(1 + int(i) for i in np.argsort(layout.perm)))
    if samples.y is not None and samples.y.dtype.kind == "i":
        accuracy = float(np.mean(outputs.reshape(len(rows), -1).argmax(axis=1) == samples.y))
        progress.say(f"accuracy   {accuracy:.2%} of {len(rows):,} samples")
    if output is not None:
        named = zip((name for name, _ in port.parts), port.apart(outputs), strict=True) if port.parts else [("y", outputs)]
        write_bytes(output, npz(dict(named)))
        progress.say(f"outputs    {output}")
    return outputs


def evaluate_project(
    project: Project, data: Path, progress: Progress, *, learned: bool, limit: int | None, timeout: float
) -> tuple[float | None, float | None]:
    """(accuracy, mean loss) of the samples of a file with the device's weights, or with `learned` those of learned.npz; says both.

    Accuracy is None where the targets are no labels. Raises DataError for data without targets, or a project without a loss.
    """
    samples = _with_targets(project, data, "test", limit, progress)
    with project.session(timeout=timeout) as session:
        if learned:
            restore(project, session)
        accuracy, loss = evaluate(session, samples, progress)
        parts = label_accuracies(project.manifest, session, samples)
    progress.say(f"loss       {loss:.4f} of {len(samples):,} samples")
    for of, part in (("", accuracy), *((f" of output {name}", part) for name, part in parts.items())):
        if part is not None:
            progress.say(f"accuracy   {part:.2%}{of}")
    return accuracy, loss


def _with_targets(project: Project, path: Path, which: str, limit: int | None, progress: Progress) -> Dataset:
    """Samples for a loss. Raises DataError where the project has none, or the samples no targets."""
    if project.manifest.target is None:
        message = f"{project.folder} was compiled for inference only; expected a project with a loss."
        raise DataError(message, hint="Compile it with --loss ce (or mse, bce).")
    samples = load(project, path, which, limit, progress=progress)
    if samples.y is None:
        raise DataError(f"{path} has no targets.", hint="An .npz needs y beside x.")
    return samples


def load(
    project: Project, path: Path, which: str, limit: int | None = None, *, targets: bool = True, progress: Progress | None = None
) -> Dataset:
    """The samples of a file in the layout of the project's device; without `targets` only the samples are read. Says its notes."""
    found = _found(project.manifest, path, which, targets)
    if progress is not None:
        for note in found.notes:
            progress.say(f"data       {note}")
    return Dataset(found.x[:limit], None if found.y is None else found.y[:limit])


def _found(manifest: Manifest, path: Path, which: str, targets: bool) -> Dataset:
    if manifest.input.parts or manifest.output.parts:
        outputs = dict(manifest.output.parts)
        wanted = {part.name: _wanted(part.dtype, outputs[part.name]) for part in manifest.targets} if targets else {}
        inputs = manifest.input.parts or (("x", manifest.input),)
        return load_records(path, {name: _layout(port) for name, port in inputs}, wanted, split=which)
    kind = _wanted(manifest.target, manifest.output) if targets and manifest.target is not None else None
    return load_dataset(path, _layout(manifest.input), kind, split=which)


def _wanted(dtype: DType, output: Port) -> Target:
    """What goes with an output whose target is of this type."""
    return Labels(math.prod(output.shape)) if dtype is S32 else Vectors(_layout(output))


def train_decaying(session: Session, samples: Dataset, rate: float, epochs: int, seed: int, accumulate: int = 1) -> None:
    """Epochs in silence. The learning rate falls in equal steps towards zero, so that the end is not at the mercy of the last few samples.

    Raises Diverged.
    """
    for epoch in range(epochs):
        session.set_lr(rate * (1 - epoch / epochs))
        train_epoch(session, samples, None, epoch, seed, Quiet(), accumulate)


def split(samples: Dataset, part: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """(training samples, held-back samples): a seeded choice that does not depend on the epoch."""
    assert samples.y is not None
    order = np.random.default_rng((seed, 0)).permutation(len(samples))
    cut = len(order) - int(len(order) * part)
    keep, hold = order[:cut], order[cut:]
    return Dataset(samples.x[keep], samples.y[keep]), Dataset(samples.x[hold], samples.y[hold]) if len(hold) else None


def _checkpoint(project: Project, session: Session, record: Record) -> None:
    learned, state = parameters(project, session)
    with uninterrupted():
        save(project, learned, state, record)
        write_text(project.folder / HISTORY, record.to_json())


def _settings(project: Project, samples: Dataset, held: Dataset | None, plan: Plan) -> Settings:
    """What must be the same where training goes on, as a user calls it. Number of epochs and time limits may change."""
    return {
        "options of compile": project.manifest.chosen[:12],
        "--limit": plan.limit,
        "samples of --data": samples_digest(samples)[:12],
        "samples of --validation": samples_digest(held)[:12] if held else None,
        "--holdout": None if held else plan.holdout,
        "--seed": plan.seed,
        "--lr": plan.learning_rate,
        "--schedule": op_text(plan.schedule) if plan.schedule.changes else None,
        "--use-scheme": plan.scheme,
        "--skip-below": plan.skip_below,
    }


def _resume(project: Project, session: Session) -> Record | None:
    """How far an earlier training came, with its weights back in the device; None where there was none."""
    path = project.folder / LEARNED
    if not path.exists() and not (project.folder / HISTORY).exists():
        return None
    record = restore(project, session)
    if record is None:
        message = f"{path} does not say how it was trained; expected a file that `tinytrain train` of this version wrote."
        raise DataError(message, hint="Train without --resume.")
    return record


def _check_same(project: Project, record: Record, settings: Settings) -> None:
    """Refuse to go on with what would be another training. Raises DataError."""
    differs = {key: (record.settings.get(key), value) for key, value in settings.items() if record.settings.get(key) != value}
    if differs:
        was, found = (", ".join(f"{key} {_said(pair[i])}" for key, pair in differs.items()) for i in (0, 1))
        message = f"{project.folder / LEARNED} was trained with {was}; found {found}."
        raise DataError(message, hint="Give what it was trained with, or --resume --changed to go on all the same, or no --resume.")


def _said(value: str | int | float | None) -> str:
    return "none" if value is None else f"{value}"


def _shaped(output: Array, shape: tuple[int, ...]) -> Array:
    if output.size != math.prod(shape):
        message = f"The device gave {output.size:,} values of output, the manifest says {math.prod(shape):,}."
        raise DeviceError(message, hint="Compile the model again.")
    return output.reshape(shape)


def _layout(port: Port) -> Layout:
    """A batch of one stands in front of the axes that are put in order; an output may have lost it."""
    return Layout(port.onnx_shape[len(port.onnx_shape) - len(port.perm) :], port.perm)
