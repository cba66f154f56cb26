# SPDX-License-Identifier: Apache-2.0
"""What samples decide of how a model is trained: `lr` auto, `class_weights` balanced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.api.build import Build
from tinytrain.api.choices import AUTO, BALANCED, DEFAULTS, is_word
from tinytrain.compiler import Options, compile_model
from tinytrain.data.given import Source
from tinytrain.errors import DataError, TinytrainError
from tinytrain.learn.find_rate import RateCurve, RateSearch, find_rate
from tinytrain.learn.samples import classes_of, load_with_targets
from tinytrain.learn.scale import scale_doubt
from tinytrain.learn.unwritten import unwritten
from tinytrain.ops.schedule import Schedule
from tinytrain.report.live import Progress
from tinytrain.schemes.scheme import is_auto
from tinytrain.search.ranks import is_ranked
from tinytrain.target.board import load_board

if TYPE_CHECKING:
    from tinytrain.api.choices import Choices


def decided_by_samples(choices: Choices) -> Choices:
    """Those of the choices that samples decide, with what stands there as long as they have not."""
    found: Choices = {}
    if is_word(choices.get("lr"), AUTO):
        least = choices.get("lr_min")                     # what it must not lie above is not known yet
        found["lr"] = max(DEFAULTS["lr"], least) if isinstance(least, (int, float)) else DEFAULTS["lr"]
    if is_word(choices.get("class_weights"), BALANCED):
        found["class_weights"] = None
    return found


def check_samples(choices: Choices, source: Source | None) -> None:
    """Raise TinytrainError where samples are to decide, and there are none."""
    if source is None and (name := next(iter(decided_by_samples(choices)), None)):
        option = f"--{name.replace('_', '-')} {choices[name]}"  # type: ignore[literal-required]
        raise TinytrainError(f"{option} is found by samples, and there are none.", hint="Give --data.")


def balanced(model: Path, options: Options, source: Source, progress: Progress) -> Options:
    """The same options with weights by which each class of the samples counts as much: n/(C·n_c) for n_c of n samples, C classes.

    Raises DataError for samples without labels, or without one of the classes.
    """
    plain = replace(options, board="host", cores=1, store=0, tuned=None, exact_seconds=0.0)
    if is_auto(options.scheme):                           # what fills the budget, and the ranks, are chosen by these weights
        plain = replace(plain, scheme="last:1", rates={})
    if is_ranked(options):
        plain = replace(plain, method="backprop")
    compiled = compile_model(model, plain)
    project = unwritten(compiled, model)
    samples = load_with_targets(project, source, "train", None, progress)
    classes = classes_of(samples, f"--class-weights {BALANCED}")
    count = int(np.prod(project.manifest.output.shape))
    if len(classes) < count:
        assert samples.y is not None
        missing = next(label for label in range(count) if label not in samples.y)
        message = f"{source} has no sample of class {missing}, whose weight is to be found; expected some of each of {count} classes."
        raise DataError(message, hint="Give weights: --class-weights 1,0.5,2.")
    weights = tuple(float(f"{len(samples) / (count * len(one)):.4g}") for one in classes)
    progress.say(f"weights    {', '.join(f'{weight:g}' for weight in weights)} of the classes, by {len(samples):,} samples")
    return replace(options, loss_options={**options.loss_options, "class_weights": weights})


def found_rate(model: Path, options: Options, source: Source, search: RateSearch, progress: Progress) -> RateCurve:
    """Which learning rate suits, on the twin of the board, without a schedule of the firmware.

    Raises DataError, LearningError, ToolError.
    """
    plain = replace(options.optimiser, schedule=Schedule())
    twin = replace(options, board=load_board(options.board).twin, store=0, optimiser=plain)
    build = Build(compile_model(model, twin))
    with build.device() as device:
        samples = load_with_targets(device.project, source, "train", None, progress)
        if doubt := scale_doubt(device.session, samples):
            progress.say(f"warning    {doubt}")
        return find_rate(device.project, device.session, samples, search, progress)
