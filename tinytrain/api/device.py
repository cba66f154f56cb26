# SPDX-License-Identifier: Apache-2.0
"""A compiled model that runs: it learns, predicts, and gives its weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.api.choices import STEADY, Course, Teaching, schedule_of
from tinytrain.api.history import History
from tinytrain.api.values import checked
from tinytrain.atomic import write_bytes
from tinytrain.data.given import Arrays, File, Given, Pair, Samples, source_of, source_of_both
from tinytrain.device.project import Project
from tinytrain.errors import DeviceError, TinytrainError
from tinytrain.ir.types import Array
from tinytrain.learn.exchange import whole
from tinytrain.learn.outputs import Evaluation, Outputs, evaluate, infer
from tinytrain.learn.samples import load, load_for_outputs, load_with_targets
from tinytrain.learn.scale import scale_doubt
from tinytrain.learn.training import Plan, lesson, train
from tinytrain.learn.weights import parameters, restore
from tinytrain.report.live import Progress, Quiet

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from tinytrain.device.counters import Counters, Step
    from tinytrain.device.session import Session


class Device:
    """A model on its host twin, an emulator or a real board. Use it in a `with` statement: leaving it ends what runs.

    x is (n, *input shape without the batch), y (n,) integer labels or (n, *output shape); of models with several inputs, or targets of
    several outputs, a mapping from their names. Either x is a data file (docs/data.md), which has y too: a path, or a `data_file`
    that says how to read it.
    All methods raise DataError for what does not fit the model, DeviceError where the device does not answer or refuses.
    """

    def __init__(self, project: Project, *, icount: bool = False, timeout: float = 60.0, keeps: object = None) -> None:
        """`keeps` is what must not go before this."""
        self.project = project
        self._keeps = keeps
        self._start = partial(project.session, icount=icount, timeout=timeout)
        self._session: Session | None = None
        self._closed = False
        self._rate_is_ours = False                        # the learning rate is no longer the compiled one

    @property
    def session(self) -> Session:
        """The conversation behind all of it. It begins when it is first needed: what is wrong with data is said without a device."""
        if self._closed:
            message = "The device is closed, and holds no longer what it had learned."
            raise DeviceError(message, hint="Use it within its `with` statement, or start another one: build.twin().")
        if self._session is None:
            self._session = self._start()
        return self._session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the emulator or program, or let go of the port. What the device is asked then raises DeviceError."""
        self._closed = True
        if self._session is not None:
            self._session.close()

    def train(
        self, x: Samples, y: Arrays | None = None, *, epochs: int = 1, validation: Pair | File | None = None,
        remember: Pair | File | None = None, holdout: float = 0.0, lr: float | None = None, seed: int = 0, limit: int | None = None,
        skip_below: float | None = None, skip_above: float | None = None, scheme: int = 0, patience: int | None = None,
        balanced: bool = False,
        keep: bool = False, resume: bool = False, changed: bool = False, force: bool = False,
        progress: Progress | None = None, **course: Unpack[Course],
    ) -> History:
        """Learn from samples, one by one, in an order that only `seed` and the number of the epoch decide.

        Each epoch is measured by the samples of `validation`, or by the part `holdout` of x; the device ends with the weights of the best
        one, or of the last where there are none. `lr` is the learning rate in place of the compiled one, to which it returns at the end;
        `course` how it changes: without a word it falls to 0 over all epochs, unless the device has its own. Only the first `limit` samples
        are used; those with a loss below `skip_below` or above `skip_above` change nothing: without a word those of which a loss without
        labels is sure, or not sure enough. `scheme` is the index of one of the compiled schemes. Training ends when no epoch was better for
        `patience` of them; `balanced` shows as many samples of each class in an epoch. What is learned stays in the device; with `keep`
        training begins anew, and writes learned.npz, learned.onnx and history.json into the project after each epoch, and last.npz where
        the last one is not the best; there `resume` goes on (with `changed`: though samples or settings are others). What an earlier
        training has left there is replaced with `force` only. `remember` are samples of before, which the memory
        of a device that was compiled with `replay` is shown first; where there is something to resume, the memory is as it was.

        Raises LearningError where it got worse by training (Diverged) or nothing that shows was learned (Unlearned); the device then has
        the weights of the best epoch that did not fail. Of a model that never told these samples apart it keeps what was learned so far.
        """
        if (resume or changed) and not (keep and resume):
            message = "--resume is for training that is kept, and --changed for one that is resumed."
            raise TinytrainError(message, hint="Give keep=True, resume=True.")
        if validation is not None and holdout:
            raise TinytrainError("--holdout has no effect beside --validation; expected one of them.", hint="Leave one of them out.")
        if force and not keep:
            raise TinytrainError("--force is for training that is kept.", hint="Give keep=True, or leave it out.")
        numbers = {
            "epochs": epochs, "lr": lr, "holdout": holdout, "seed": seed, "limit": limit, "skip_below": skip_below,
            "skip_above": skip_above, "scheme": scheme, "patience": patience, "balanced": balanced,
        }
        given = checked(Teaching, {**numbers, **course})
        asked = any(course.get(name, default) != default for name, default in STEADY.items())
        schedule, progress = schedule_of(given, given["lr"], ends=True) if asked else None, progress or Quiet()
        plan = Plan(
            epochs=given["epochs"], learning_rate=given["lr"], seed=given["seed"], keep=keep, resume=resume, changed=changed, force=force,
            limit=given["limit"], holdout=given["holdout"], skip_below=given["skip_below"], skip_above=given["skip_above"],
            scheme=given["scheme"], schedule=schedule, patience=given["patience"], balanced=given["balanced"],
        )
        held = None if validation is None else source_of_both(validation)
        old = None if remember is None else source_of_both(remember)
        taught = lesson(self.project, source_of(x, y), held, plan, progress, old)
        if lr is None and self._rate_is_ours:
            self.session.set_lr(self.project.manifest.learning_rate)
        self._rate_is_ours = True                         # until the training ends as it should
        history = History(train(self.project, self.session, taught, plan, progress))
        self._rate_is_ours = lr is not None
        return history

    def step(self, x: Arrays, y: Arrays) -> Step:
        """One training step: one x in the shape of the input, one y, a label or in the shape of the output; without a batch.

        Its `instructions` are counted where `build.emulator(icount=True)` runs it.
        """
        samples = load_with_targets(self.project, Given(_batch_of_one(x), _batch_of_one(y)), "train", None, Quiet())
        assert samples.y is not None
        return self.session.train_step(samples.x[0], samples.y[0])

    def predict(self, x: Samples, *, limit: int | None = None, progress: Progress | None = None) -> Array | dict[str, Array]:
        """Outputs, float32 (n, *output shape without the batch); of a model with several outputs, a dict of them by name."""
        samples = load(self.project, source_of(x), "test", _limit(limit), targets=False, progress=progress)
        found = infer(self.session, samples, progress or Quiet()).named
        return found if self.project.manifest.output.parts else found["y"]

    def infer(self, x: Samples, y: Arrays | None = None, *, limit: int | None = None, progress: Progress | None = None) -> Outputs:
        """The same with what is known of them: their accuracy, where there are labels."""
        progress = progress or Quiet()
        samples = load_for_outputs(self.project, source_of(x, y), "test", _limit(limit), progress)
        return infer(self.session, samples, progress)

    def evaluate(self, x: Samples, y: Arrays | None = None, *, limit: int | None = None, progress: Progress | None = None) -> Evaluation:
        """Mean loss, accuracy and outputs; nothing is learned."""
        progress = progress or Quiet()
        samples = load_with_targets(self.project, source_of(x, y), "test", _limit(limit), progress)
        if doubt := scale_doubt(self.session, samples):
            progress.say(f"warning    {doubt}")
        return evaluate(self.session, samples, progress)

    def weights(self) -> dict[str, Array]:
        """What the device has learned: arrays in ONNX layout, by the names of the ONNX initializers."""
        return parameters(self.project, self.session)[0]

    def save(self, path: str | Path) -> Path:
        """Write what the device has learned: `.onnx` the model, `.npz` weights and state of the optimiser. Raises OutputError otherwise."""
        write_bytes(Path(path), whole(self.project, self.session, Path(path)))
        return Path(path)

    def load(self, path: str | Path | None = None) -> None:
        """Give the device what was saved as `.npz`; without a path learned.npz of its project. Raises DataError for another model's."""
        restore(self.project, self.session, None if path is None else Path(path))

    def reset(self) -> None:
        """Back to the compiled weights, state of the optimiser and learning rate."""
        self.session.reset()
        self._rate_is_ours = False

    def counters(self) -> Counters:
        """Instructions of the last call where they are counted (`build.emulator(icount=True)`), stack, clock."""
        return self.session.counters()


def _batch_of_one(given: Arrays) -> Arrays:
    if isinstance(given, Mapping):
        return {name: np.asarray(array)[None] for name, array in given.items()}
    return np.asarray(given)[None]


def _limit(given: int | None) -> int | None:
    """So many of the samples, None for all. Raises TinytrainError."""
    limit: int | None = checked(Teaching, {"limit": given})["limit"]
    return limit
