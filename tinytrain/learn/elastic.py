# SPDX-License-Identifier: Apache-2.0
"""What a model knows of samples of before depends on which weights: their Fisher information, by the NumPy reference of its gradients.

Of each weight the mean over samples of the squared gradient of the loss, where the target is what the file says; divided by the mean over
all weights that are trained, so that a strength means the same whatever model and data. Half of what pulls is that, the other half alike
for all weights (Li, Grandvalet and Davoine, arXiv 1802.01483): what a model is sure of has next to no gradient where it stands, and is lost
some way off.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tinytrain.compiler import Compiled, Options, compile_model
from tinytrain.data.given import Source
from tinytrain.errors import DataError, ModelError
from tinytrain.gradient.elastic import Elastic
from tinytrain.gradient.methods import method
from tinytrain.gradient.update import factor_shape
from tinytrain.ir.types import Array, Role, Value
from tinytrain.learn.samples import load_with_targets
from tinytrain.learn.unwritten import unwritten
from tinytrain.report.live import Progress
from tinytrain.verify.reference import run

SAMPLES = 200                                             # at most, evenly spread


def consolidated(model: Path, old: Source, options: Options, strength: float, progress: Progress) -> Options:
    """The same options, by which weights are pulled to where they start. Raises DataError for samples that do not fit the model or have no
    gradient, ModelError where nothing is trained, and what `compile_model` raises."""
    if options.grad == "int8":
        raise ModelError("--elastic: weights are pulled in fp32; --grad int8 trains with integers alone.", hint="Leave one of them out.")
    # of a sum of gradients that starts from 0 one step makes the gradient
    summed = dataclasses.replace(options.optimiser, accumulate=2, clip_norm=0.0, clip_value=0.0)
    plain = dataclasses.replace(
        options, board="host", cores=1, store=0, tuned=None, optimiser=summed, exact_seconds=0.0, replay=None, distil=None, dtype="fp32",
        grad="fp32", precision=(), int8_input=False,     # the reference quantises samples, which are real numbers
        method="backprop" if method(options.method).chooses else options.method,               # of which each step is one
    )
    compiled = compile_model(model, plain)
    if not compiled.program.trains:
        raise ModelError(f"{model} trains nothing, so there is nothing for --elastic to hold.", hint="Leave it out, or choose a --loss.")
    found = _squares(compiled, model, old, progress)
    total = sum(float(squares.sum()) for squares in found.values())
    if not total > 0 or not np.isfinite(total):
        raise DataError(f"{old}: no weight that is trained has a gradient by these samples that is a number above 0.",
                        hint="Give samples of the kind that the model was trained with.")
    mean = total / sum(squares.size for squares in found.values())
    return dataclasses.replace(options, elastic=Elastic(strength, {name: (squares / mean + 1) / 2 for name, squares in found.items()}))


def _squares(compiled: Compiled, model: Path, old: Source, progress: Progress) -> dict[str, Array]:
    """Of each PARAM the sum of the squared gradients, with respect to real weights."""
    project = unwritten(compiled, model)
    samples = load_with_targets(project, old, "train", None, progress)
    assert samples.y is not None
    at = np.unique(np.linspace(0, len(samples) - 1, min(SAMPLES, len(samples))).astype(int))
    program = compiled.program
    params = {f"sum_{v.name}": v for v in program.stored(Role.PARAM)}
    found: dict[str, Array] = {}
    progress.start("weighing", len(at) * len(program.trains))
    for train in program.trains:
        graph = program.entries[train]
        sums = [(v, params[v.name]) for v in graph.updates if v.name in params and params[v.name].name not in found]
        squares = [np.zeros(v.shape) for v, _ in sums]
        for i in at:
            given = [array[i].reshape(v.shape) for v, array in zip(graph.inputs, (samples.x, samples.y), strict=True)]
            made = run(graph, given).updates
            for square, (total, param) in zip(squares, sums, strict=True):
                square += np.square(made[total] / _scale(param))
            progress.advance("")
        found |= {param.name: square for square, (_, param) in zip(squares, sums, strict=True)}
    return found


def _scale(param: Value) -> Array:
    """What a step of the stored number is worth."""
    quant = param.type.quant
    return np.array(quant.scale).reshape(factor_shape(param)) if quant else np.ones(1)
