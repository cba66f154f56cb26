# SPDX-License-Identifier: Apache-2.0
"""Long work on a device: training over epochs with checkpoints, evaluation, inference. Samples are streamed one by one."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tinytrain.data.concerns import concerns
from tinytrain.data.dataset import Dataset
from tinytrain.data.file import DataFile
from tinytrain.data.given import Source
from tinytrain.device import store
from tinytrain.device.project import Project
from tinytrain.errors import DataError, LearningError, Overflowed
from tinytrain.learn.checkpoint import check_same, checkpoint, left_by, refuse_replacing, resume
from tinytrain.learn.chosen import choices_text
from tinytrain.learn.collapse import Watch
from tinytrain.learn.export import check_export
from tinytrain.learn.forecast import forecast_seconds, step_text, time_text
from tinytrain.learn.memory import load_old, remember
from tinytrain.learn.outputs import evaluate, infer
from tinytrain.learn.rates import Rates, rates_of, schedule_text
from tinytrain.learn.samples import BALANCED, classes_of, load, load_with_targets, order_of, scaling_of, split
from tinytrain.learn.scale import scale_doubt
from tinytrain.learn.state import LAST, Epoch, Record, Settings, epoch_text, samples_digest
from tinytrain.learn.unlabelled import are_stand_ins, bounds, labelled
from tinytrain.learn.yardstick import Diverged, Yardstick
from tinytrain.ops.schedule import Schedule
from tinytrain.report.live import Progress, Quiet

if TYPE_CHECKING:
    from tinytrain.device.session import Session

HELD = "give another recording as --validation"
REMEMBERED = "samples of --remember"
LINK_CALLS = 4                                            # by which the time of one is measured


@dataclass(frozen=True)
class Plan:
    """How to train; `limit` uses the first samples only, `holdout` is the part kept for validation where none are given.

    Samples with a loss below `skip_below` or above `skip_above` (None: bounds of the loss) cost their forward pass only; `scheme` is one of
    those that the project was compiled with.
    Training ends when for `patience` epochs none was better by the validation samples; `balanced` shows as many samples of each class.
    `schedule` sets the learning rate of each update from here, for firmware without one of its own: None lets it fall to 0 over all epochs.
    `keep` writes what is learned into the project after each epoch; `resume` goes on behind the last epoch that is there; with `changed`
    also where data or settings are others than they were. Without it `force` replaces what an earlier training has left there.
    """

    epochs: int = 1
    learning_rate: float | None = None
    seed: int = 0
    keep: bool = False
    resume: bool = False
    changed: bool = False
    force: bool = False
    limit: int | None = None
    holdout: float = 0.1
    skip_below: float | None = None
    skip_above: float | None = None
    scheme: int = 0
    schedule: Schedule | None = None
    patience: int | None = None
    balanced: bool = False


@dataclass(frozen=True)
class Lesson:
    """Samples to learn from, and those that each epoch is measured by, if any; `settings` is what must be the same to go on with it."""

    samples: Dataset
    held: Dataset | None
    settings: Settings
    scaling: str = ""                                     # what became of the values of a file
    old: Dataset | None = None                            # what the device's memory is shown first


def lesson(
    project: Project, data: Source, validation: Source | None, plan: Plan, progress: Progress, remembered: Source | None = None
) -> Lesson:
    """The samples of a plan; says what is likely to be wrong with them. Raises DataError for unusable data, or too few; OutputError where
    that would replace an earlier training.
    """
    # another training, which is not gone on with, need not have had the same classes
    known = None if plan.resume else project.manifest.classes
    samples = load_with_targets(project, data, "train", plan.limit, progress, known)
    accumulate = project.manifest.accumulate
    held = None
    if validation is not None:
        reading = load if labelled(project.manifest) else load_with_targets
        held = reading(project, validation, "test", None, progress=progress, classes=samples.classes)
    for concern in concerns(samples, math.prod(project.manifest.output.shape)):
        progress.say(f"warning    {concern}")
    old = None if remembered is None else load_old(project, remembered, progress, samples.classes)
    settings = _settings(project, samples, held, old, plan)
    if held is None and plan.holdout > 0:
        if isinstance(data, DataFile) and data.stride < data.window:
            progress.say(f"warning    windows overlap, so that those of --holdout share rows with those of the training: {HELD}")
        samples, held = split(samples, plan.holdout, plan.seed)
    if plan.patience and held is None:
        message = f"--patience {plan.patience} needs samples that say which epoch is better; found neither --validation nor --holdout."
        raise DataError(message, hint="Give one of them, or leave it out.")
    if plan.patience and _tells_nothing(project, held):
        message = f"--patience {plan.patience} needs samples that say which epoch is better; those held back have no labels."
        raise DataError(message, hint="Give some that have: --validation. Or leave it out.")
    if plan.balanced:
        classes_of(samples, BALANCED)
        if project.manifest.loss_options.get("class_weights"):
            progress.say("warning    the firmware was compiled with --class-weights too: rare classes count twice as they should")
    if len(samples) < accumulate:
        message = f"{data} gives {len(samples):,} samples to train with; {project.folder} makes one update from {accumulate:,}."
        raise DataError(message, hint="Give more samples, a smaller --holdout, or compile with a smaller --accumulate.")
    if plan.keep and not (plan.resume or plan.force):
        refuse_replacing(project)
    return Lesson(samples, held, settings, scaling_of(data), old)


def train(project: Project, session: Session, taught: Lesson, plan: Plan, progress: Progress) -> Record:
    """Train the project's device. To `keep` it begins with the compiled weights, and after each epoch `learned.npz`, `learned.onnx` and
    `history.json` are up to date, with `last.npz` where the validation samples say that an epoch before the last was the best.

    The device ends with the weights of the best epoch, and the learning rate that it began with. Raises DataError where it cannot be
    resumed, DeviceError where the device fails, Diverged where training made things worse and Unlearned where nothing came of it: the
    device then has the best of the epochs that did not fail.
    """
    samples, held, settings = taught.samples, taught.held, dict(taught.settings)
    if plan.keep:
        session.reset()
    record, best = resume(project, session) if plan.resume else (None, None)
    if record is not None:
        if plan.learning_rate is None:
            settings["--lr"] = record.settings.get("--lr")      # part of the state that is back in the device
        if taught.old is None:
            settings[REMEMBERED] = record.settings.get(REMEMBERED)      # and so is the memory
        if not plan.changed:
            check_same(project, record, settings)
    elif plan.resume and taught.old is None and project.manifest.memory:
        progress.say("warning    there is nothing to resume: training begins with an empty memory, unless --remember is given too")
    if taught.old is not None and (record is None or record.settings.get(REMEMBERED) != settings[REMEMBERED]):
        remember(session, taught.old, progress)
    base = float(project.manifest.learning_rate if settings["--lr"] is None else settings["--lr"])
    rates = rates_of(project, plan.schedule, base, plan.epochs * (len(samples) // project.manifest.accumulate))
    if plan.learning_rate is not None:
        session.set_lr(plan.learning_rate)
    low, high = bounds(project, plan.skip_below, plan.skip_above)
    session.set_skip_below(low)
    session.set_skip_above(high if math.isfinite(high) else 0.0)
    yardstick = Yardstick.of(project, session, samples, held, plan.seed, record.before if record else None, high)
    epochs, number = (record.epochs, record.best) if record else ((), 0)
    anew = plan.changed and len(epochs) < plan.epochs
    leader = None if anew or not epochs else epochs[number - 1]                 # what other samples said cannot be compared
    if best is None:
        best = session.get_params()
    if anew:
        number = len(epochs)                              # what --patience counts from; the best until now stays until another is kept
    untrained = record.untrained if record else _untrained(session, yardstick, held, progress)
    record = Record(project.manifest.model_sha256, settings, yardstick.before, epochs, samples.classes, taught.scaling, untrained, number)
    if not epochs and (doubt := scale_doubt(session, samples)):
        progress.say(f"warning    {doubt}")
    _announce(project, session, record, taught, plan, rates, progress)
    watch = Watch(project, yardstick, session.get_params(), still=base == 0, bounds=(low, high))
    if epochs and not anew:
        checkpoint(project, session, watch.good, record)  # what is written from the record may be behind it
    if len(epochs) >= plan.epochs:
        progress.say(f"trained    {len(epochs)} epochs already; --epochs {plan.epochs} asks for no more")
    try:
        for number in range(len(epochs) + 1, plan.epochs + 1):
            if plan.patience and (waited := number - 1 - record.best) >= plan.patience:
                progress.say(f"stopped    {waited} epochs without a better one: --patience {plan.patience}")
                break
            session.set_scheme(plan.scheme)               # drops what an epoch with samples left out has summed in vain
            epoch = train_epoch(
                session, samples, held, number, plan.seed, progress, project.manifest.accumulate, rates, balanced=plan.balanced,
                highest=high,
            )
            _store(project, session)
            record = replace(record, epochs=(*record.epochs, epoch))
            if watch.look(session, epoch):
                if leader is None or _tells_nothing(project, held) or epoch.better(leader):
                    leader, best, record = epoch, watch.good, replace(record, best=number)
                if plan.keep:
                    checkpoint(project, session, watch.good, record)
            progress.say(f"{epoch_text(epoch, plan.epochs)}{watch.text}")
            if chose := choices_text(project, session):
                progress.say(chose)
        watch.end(session)
    except LearningError:
        session.set_params(best if record.best else watch.good)
        _store(project, session)
        raise
    if record.best < len(record.epochs):
        session.set_params(best)
        _store(project, session)
        progress.say(f"best       epoch {record.best}: the device has its weights{f', {LAST} those of the last' if plan.keep else ''}")
    if plan.keep:
        _conclude(project, session, held or samples, progress)
    return record


def _tells_nothing(project: Project, held: Dataset | None) -> bool:
    """Whether samples have no labels: their loss is least of all where a network says the same class of all."""
    return held is not None and held.y is not None and are_stand_ins(project.manifest, held.y)


def _store(project: Project, session: Session) -> None:
    """Into the flash of firmware that keeps what it learns: what it has saved by itself in an epoch has a rate, and weights, of the way."""
    if project.manifest.store:
        store.save(session)


def _untrained(session: Session, yardstick: Yardstick, held: Dataset | None, progress: Progress) -> Epoch:
    """How good the model is before the first step."""
    began = time.monotonic()
    measured = evaluate(session, held, progress) if held is not None and len(held) else None
    loss = measured.loss if measured and math.isfinite(measured.loss) else None
    return Epoch(0, yardstick.before, measured.accuracy if measured else None, loss, 0, time.monotonic() - began)


def _announce(
    project: Project, session: Session, record: Record, taught: Lesson, plan: Plan, rates: Rates | None, progress: Progress,
) -> None:
    """Say where a training begins, and what it will take."""
    held, left = len(taught.held) if taught.held is not None else 0, plan.epochs - len(record.epochs)
    steps = len(taught.samples) - len(taught.samples) % project.manifest.accumulate
    if record.untrained and not record.epochs:
        progress.say(epoch_text(record.untrained, plan.epochs))
    seconds = None
    if record.epochs:
        seconds = left * record.epochs[-1].seconds
    elif record.untrained and held:
        set_rates = 0 if rates is None else steps // project.manifest.accumulate
        seconds = forecast_seconds(project, record.untrained.seconds / held, _link_seconds(session), left, steps, held, set_rates)
    rate = "rate       follows the schedule that it was compiled with" if rates is None else f"rate       {rates}"
    for line in (rate, step_text(project), time_text(project, seconds, left, steps)):
        if line and left > 0:
            progress.say(line)


def _link_seconds(session: Session) -> float:
    """How long a question takes for which nothing is computed."""
    began = time.monotonic()
    for _ in range(LINK_CALLS):
        session.counters()
    return (time.monotonic() - began) / LINK_CALLS


def _conclude(project: Project, session: Session, samples: Dataset, progress: Progress) -> None:
    """Say what came of it: accuracies of several outputs, whether `learned.onnx` is what the device has, where the files are."""
    if project.manifest.targets:
        for name, accuracy in infer(session, samples, Quiet()).accuracies.items():
            progress.say(f"accuracy   {accuracy:.2%} of output {name}")
    counters = session.counters()
    if counters.stack_reserved_bytes:
        progress.say(f"stack      {counters.stack_bytes:,} of {counters.stack_reserved_bytes:,} B")
    check_export(project, session, samples.x, progress.say)
    for file in left_by(project):
        progress.say(f"{file.split('.')[1]:<10} {project.folder / file}")


def train_epoch(
    session: Session, samples: Dataset, held: Dataset | None, number: int, seed: int, progress: Progress, accumulate: int = 1,
    rates: Rates | None = None, *, balanced: bool = False, highest: float = math.inf,
) -> Epoch:
    """One pass in an order that only (seed, number) decides, then a pass over the validation samples.

    With gradients accumulated over N samples the last few that make no update are left out of this epoch, so that it ends with an update.
    Where samples are skipped, or a memory adds others, a few may be summed in vain all the same: the next epoch drops them.
    `rates` sets the learning rate of each update, counted from 0 in the first epoch, and in the end its base.
    Samples of a loss above `highest`, which are left out, are not part of the mean. Raises Diverged.
    """
    assert samples.y is not None
    began = time.monotonic()
    order = order_of(samples, seed, number, balanced=balanced)
    order = order[: len(order) - len(order) % accumulate]
    skipped, overflowed = _left_out(session)
    progress.start(f"epoch {number}", len(order))
    total, counted = 0.0, 0
    for done, i in enumerate(order, start=1):
        if rates is not None and (done - 1) % accumulate == 0:
            session.set_lr(rates(((number - 1) * len(order) + done - 1) // accumulate))
        try:
            loss = session.train_step(samples.x[i], samples.y[i]).loss
        except Overflowed as why:
            message = f"Training diverged after {done} samples of epoch {number}: {why.sentences[0]}"
            raise Diverged(message, hint=why.hint) from why
        if math.isfinite(loss) and loss <= highest:
            total, counted = total + loss, counted + 1
        progress.advance(f"loss {total / max(counted, 1):.4f}")
        if not math.isfinite(loss) and overflowed is None:
            message = f"The loss is not finite after {done} samples of epoch {number}; what was learned in this epoch is dropped."
            raise Diverged(message, hint="Train with a lower learning rate (--lr).")
    if rates is not None:
        session.set_lr(rates.base)                        # which is kept with the weights
    measured = evaluate(session, held, progress) if held is not None else None
    all_skipped, all_overflowed = _left_out(session)
    return Epoch(
        number, total / max(counted, 1), measured.accuracy if measured else None, measured.loss if measured else None, len(order),
        time.monotonic() - began, all_skipped - skipped, (all_overflowed or 0) - (overflowed or 0),
    )


def _left_out(session: Session) -> tuple[int, int | None]:
    """Samples so far whose loss was beyond a threshold, and such whose loss or gradients overflowed: None where nobody looks at that."""
    scale = session.scale()
    return session.counters().skipped, scale.overflowed if scale else None


def train_decaying(session: Session, samples: Dataset, rate: float, epochs: int, seed: int, accumulate: int = 1) -> None:
    """Epochs in silence. The learning rate falls in equal steps towards zero, so that the end is not at the mercy of the last few samples.

    Raises Diverged.
    """
    for epoch in range(epochs):
        session.set_lr(rate * (1 - epoch / epochs))
        train_epoch(session, samples, None, epoch, seed, Quiet(), accumulate)


def _settings(project: Project, samples: Dataset, held: Dataset | None, old: Dataset | None, plan: Plan) -> Settings:
    """What must be the same where training goes on, as a user calls it. Number of epochs and time limits may change."""
    low, high = bounds(project, plan.skip_below, plan.skip_above)
    return {
        "options of compile": project.manifest.chosen[:12],
        "--limit": plan.limit,
        "samples of --data": samples_digest(samples)[:12],
        "samples of --validation": samples_digest(held)[:12] if held else None,
        REMEMBERED: samples_digest(old)[:12] if old else None,
        "--holdout": None if held else plan.holdout,
        "--seed": plan.seed,
        "--lr": plan.learning_rate,
        "--schedule": None if project.manifest.scheduled else schedule_text(plan.schedule),
        "--use-scheme": plan.scheme,
        BALANCED: plan.balanced or None,
        "--skip-below": low,
        "--skip-above": high if math.isfinite(high) else None,
    }
