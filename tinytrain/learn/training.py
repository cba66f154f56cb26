# SPDX-License-Identifier: Apache-2.0
"""Long work on a device: training over epochs with checkpoints, evaluation, inference. Samples are streamed one by one."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.atomic import uninterrupted, write_bytes, write_text
from tinytrain.data.dataset import Dataset, Labels, Layout, NoTargets, Target, Vectors, load_dataset
from tinytrain.device.project import Project
from tinytrain.errors import DataError, DeviceError, OutputError
from tinytrain.ir.types import Array, Source
from tinytrain.learn.export import check_export
from tinytrain.report.live import Progress, Quiet

if TYPE_CHECKING:
    from tinytrain.device.session import Session

STATE = "state/"                                          # prefix of optimiser state among the arrays of learned.npz


class Diverged(DeviceError):
    """The loss grew out of all numbers."""


@dataclass(frozen=True)
class Plan:
    """How to train; `limit` uses the first samples only, `holdout` is the part kept for validation where no file is given.

    Samples with a loss below `skip_below` cost their forward pass only; `scheme` is one of those that the project was compiled with.
    """

    epochs: int = 1
    learning_rate: float | None = None
    seed: int = 0
    resume: bool = False
    limit: int | None = None
    holdout: float = 0.1
    timeout: float = 60.0
    skip_below: float = 0.0
    scheme: int = 0


@dataclass(frozen=True)
class Epoch:
    """Means over one epoch: loss before each update; accuracy and loss on the validation samples, None where there are none.

    Of the `steps` samples, `skipped` had a loss below the threshold and changed nothing.
    """

    epoch: int
    loss: float
    accuracy: float | None
    validation_loss: float | None
    steps: int
    seconds: float
    skipped: int = 0


def train_project(project: Project, data: Path, validation: Path | None, plan: Plan, progress: Progress) -> list[Epoch]:
    """Train a compiled project on its board; after each epoch `history.json`, `learned.npz` and `learned.onnx` are up to date.

    Raises DataError for unusable data, DeviceError where the device fails; what the finished epochs learned is then on disk.
    """
    if project.manifest["target"] is None:
        message = f"{project.folder} was compiled for inference only; expected a project with a loss."
        raise DataError(message, hint="Compile it with --loss ce (or mse, bce).")
    samples = load(project, data, "train", plan.limit, progress=progress)
    if samples.y is None:
        raise DataError(f"{data} has no targets to train with.", hint="An .npz needs y beside x.")
    accumulate = int(project.manifest["optimiser"]["accumulate"])
    held = load(project, validation, "test", progress=progress) if validation else None
    if held is None and plan.holdout > 0:
        samples, held = split(samples, plan.holdout, plan.seed)
    if len(samples) < accumulate:
        message = f"{data} gives {len(samples):,} samples to train with; {project.folder} makes one update from {accumulate:,}."
        raise DataError(message, hint="Give more samples, a smaller --holdout, or compile with a smaller --accumulate.")
    with project.session(timeout=plan.timeout) as session:
        history = _resume(project, session) if plan.resume else []
        if plan.learning_rate is not None:
            session.set_lr(plan.learning_rate)
        session.set_skip_below(plan.skip_below)
        for number in range(len(history) + 1, plan.epochs + 1):
            session.set_scheme(plan.scheme)               # drops what an epoch with samples left out has summed in vain
            history.append(train_epoch(session, samples, held, number, plan.seed, progress, accumulate))
            _checkpoint(project, session, history, plan)
            progress.say(epoch_text(history[-1], plan.epochs))
        check_export(project, session, (held or samples).x, progress.say)
    for name in ("history.json", "learned.npz", "learned.onnx"):
        progress.say(f"{name.split('.')[1]:<10} {project.folder / name}")
    return history


def train_epoch(
    session: Session, samples: Dataset, held: Dataset | None, number: int, seed: int, progress: Progress, accumulate: int = 1
) -> Epoch:
    """One pass in an order that only (seed, number) decides, then a pass over the validation samples.

    With gradients accumulated over N samples the last few that make no update are left out of this epoch, so that a checkpoint
    never falls between two updates.
    """
    assert samples.y is not None
    began = time.monotonic()
    order = np.random.default_rng((seed, number)).permutation(len(samples))
    order = order[: len(order) - len(order) % accumulate]
    skipped = session.counters().skipped
    progress.start(f"epoch {number}", len(order))
    total = 0.0
    for done, i in enumerate(order, start=1):
        total += session.train_step(samples.x[i], samples.y[i]).loss
        progress.advance(f"loss {total / done:.4f}")
        if not np.isfinite(total):
            message = f"The loss is not finite after {done} samples of epoch {number}; what was learned in this epoch is dropped."
            raise Diverged(message, hint="Train with a lower learning rate (--lr).")
    accuracy, loss = evaluate(session, held, progress) if held is not None else (None, None)
    skipped = session.counters().skipped - skipped
    return Epoch(number, total / max(len(order), 1), accuracy, loss, len(order), time.monotonic() - began, skipped)


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
    layout = _layout(project.manifest["output"])
    with project.session(timeout=timeout) as session:
        if learned:
            restore(project, session)
        progress.start("infer", len(samples))
        rows = []
        for x in samples.x:
            rows.append(session.infer(x).reshape(layout.device_shape))
            progress.advance("")
    outputs = np.array(rows, np.float32).reshape(len(rows), *layout.device_shape)
    outputs = outputs.transpose(0, *(1 + int(i) for i in np.argsort(layout.perm)))
    if samples.y is not None and samples.y.dtype.kind == "i":
        accuracy = float(np.mean(outputs.reshape(len(rows), -1).argmax(axis=1) == samples.y))
        progress.say(f"accuracy   {accuracy:.2%} of {len(rows):,} samples")
    if output is not None:
        write_bytes(output, _npz({"y": outputs}))
        progress.say(f"outputs    {output}")
    return outputs


def load(
    project: Project, path: Path, which: str, limit: int | None = None, *, targets: bool = True, progress: Progress | None = None
) -> Dataset:
    """The samples of a file in the layout of the project's device; without `targets` only the samples are read. Says its notes."""
    manifest = project.manifest
    kind: Target = None
    if targets and manifest["target"] is not None:
        labels = manifest["target"]["dtype"] == "s32"
        kind = Labels(int(np.prod(manifest["output"]["shape"]))) if labels else Vectors(_layout(manifest["output"]))
    found = load_dataset(path, _layout(manifest["input"]), kind, split=which)
    if progress is not None:
        for note in found.notes:
            progress.say(f"data       {note}")
    return Dataset(found.x[:limit], None if found.y is None else found.y[:limit])


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


def parameters(project: Project, session: Session) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the device has learned: (parameters by ONNX initializer name in ONNX layout, state of the optimiser by name)."""
    read = session.get_params()
    before = project.initializers
    learned: dict[str, Array] = {}
    for p in project.manifest["parameters"]:
        learned[p["name"]] = _source(p).to_onnx(read.pop(p["key"]), learned.get(p["name"], before[p["name"]]))
    return learned, read


def restore(project: Project, session: Session) -> None:
    """Write `learned.npz` into the device. Raises DataError where it is missing or of another model."""
    path = project.folder / "learned.npz"
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected the weights of an earlier training.", hint="Train first: `tinytrain train`.")
    try:
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files}
        written = {
            p["key"]: _source(p).to_ir(arrays[p["name"]], tuple(p["shape"])) for p in project.manifest["parameters"]
        }
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} does not hold the parameters of this project: {error}.", hint="Train it first.") from error
    state = {key.removeprefix(STATE): array for key, array in arrays.items() if key.startswith(STATE)}
    session.set_params({**written, **state})


def epoch_text(epoch: Epoch, epochs: int) -> str:
    """One line for people."""
    accuracy = f"   accuracy {epoch.accuracy:.2%}" if epoch.accuracy is not None else ""
    skipped = f", {epoch.skipped:,} skipped" if epoch.skipped else ""
    return f"epoch {epoch.epoch}/{epochs}   loss {epoch.loss:.4f}{accuracy}   {epoch.steps:,} steps in {epoch.seconds:.1f} s{skipped}"


def export_learned(project: Project, session: Session) -> Path:
    """Write what the device has learned as `learned.npz` and `learned.onnx`; returns the latter."""
    return _save(project, *parameters(project, session))


def _save(project: Project, learned: dict[str, Array], state: dict[str, Array]) -> Path:
    import onnx

    from tinytrain.frontend.export import export

    for name, array in {**learned, **state}.items():
        if not np.isfinite(array).all():
            raise DeviceError(f"{name} is not finite after training; nothing was saved.", hint="Train with a lower learning rate (--lr).")
    write_bytes(project.folder / "learned.npz", _npz({**learned, **{STATE + name: array for name, array in state.items()}}))
    model = export(onnx.load(project.folder / "model.onnx"), learned, str(project.folder))
    write_bytes(project.folder / "learned.onnx", model.SerializeToString())
    return project.folder / "learned.onnx"


def _checkpoint(project: Project, session: Session, history: Sequence[Epoch], plan: Plan) -> None:
    """Weights first: a history that counts an epoch whose weights are lost could not be resumed."""
    learned, state = parameters(project, session)
    settings: dict[str, Any] = {"plan": asdict(plan), "epochs": [asdict(epoch) for epoch in history]}
    with uninterrupted():
        _save(project, learned, state)
        write_text(project.folder / "history.json", json.dumps(settings, indent=2) + "\n")


def _resume(project: Project, session: Session) -> list[Epoch]:
    """The finished epochs, with their weights back in the device; nothing where there is no history yet."""
    path = project.folder / "history.json"
    if not path.exists():
        return []
    try:
        history = [Epoch(**epoch) for epoch in json.loads(path.read_text(encoding="utf-8"))["epochs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no history of training: {error}.", hint="Delete it to start anew.") from error
    restore(project, session)
    return history


def _layout(port: dict[str, Any]) -> Layout:
    """A batch of one stands in front of the axes that are put in order; an output may have lost it."""
    shape, perm = tuple(port["onnx_shape"]), tuple(port["perm"])
    return Layout(shape[len(shape) - len(perm) :], perm)


def _source(parameter: dict[str, Any]) -> Source:
    fields: dict[str, Any] = {key: _tuples(value) for key, value in parameter["source"].items()}
    return Source(**fields)


def _tuples(value: Any) -> Any:
    """JSON has lists only."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _npz(arrays: dict[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
