# SPDX-License-Identifier: Apache-2.0
"""Ranks of adapters, layer by layer, that samples choose under a budget: `--method lowrank:auto`.

The step that lowers the loss of the samples most is along the gradient G of a weight; the best step of rank r is that along the r largest
singular values σ of G, which lowers it by Σ σ² (Eckart, Young, 1936). A further rank in a layer is thus worth σ² of the next one, and costs
the bytes of its row and column; the first also those of the map that its gradient reads. Ranks are taken in the order of worth for cost,
as many as fit. Nothing is trained for it: Maestro (arXiv 2308.14929) finds the order by training with ordered dropout, which
benchmarks/ranks.py measures beside it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from tinytrain.compiler import Options, chosen_scheme, compile_model, load_forward
from tinytrain.data.given import Source
from tinytrain.errors import SchemeError, TinytrainError
from tinytrain.gradient.methods import method
from tinytrain.gradient.methods.lowrank import LowRank, adaptable
from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Array
from tinytrain.learn.samples import load
from tinytrain.learn.unwritten import unwritten
from tinytrain.report.live import Progress
from tinytrain.schemes.scheme import is_auto, layers
from tinytrain.search.cost import Costs
from tinytrain.search.fill import within
from tinytrain.search.precision import some
from tinytrain.search.scores import mean_gradients

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Ladder:
    """What the ranks of an adapter are worth, the first one first, and what they cost: `first_bytes` more with the first one."""

    layer: str
    worth: Sequence[float]
    rank_bytes: int
    first_bytes: int

    def best(self, taken: int) -> tuple[float, int]:
        """(worth for each byte, how many ranks) of the further ranks that together give most for what they cost."""
        rates = (
            (sum_ / (self.rank_bytes * more + (0 if taken else self.first_bytes)), more)
            for more, sum_ in enumerate(accumulate(self.worth[taken:]), start=1)
        )
        return max(rates, default=(0.0, 0))


def is_ranked(options: Options) -> bool:
    """Whether ranks are still to be chosen."""
    how = method(options.method)
    return isinstance(how, LowRank) and how.is_auto


def ranked(model: Path, data: Source | None, options: Options, budget_bytes: int | None, progress: Progress) -> Options:
    """The same options with ranks for `lowrank:auto`. Raises SchemeError where there is no layer or no room for an adapter, TinytrainError
    where samples or bounds are missing, DataError for samples that do not fit the model."""
    if not is_ranked(options):
        return options
    if options.further_schemes or is_auto(options.scheme):
        message = f"--method {options.method} fills the budget by itself; expected one --scheme that says which layers have adapters."
        raise SchemeError(message, hint="Give --scheme last:6, or full.")
    if data is None:
        message = f"--method {options.method} chooses ranks by what samples say; found no --data."
        raise TinytrainError(message, hint="Give --data, or a rank: --method lowrank:4.")
    plain = dataclasses.replace(
        options, method="backprop", board="host", cores=1, store=0, tuned=None, exact_seconds=0.0, int8_input=False,
    )
    prepared, _, forward = load_forward(model, plain)
    how = method(options.method)
    assert isinstance(how, LowRank)
    named = how.of_schemes((options.scheme,), forward).layers
    free = {one.node.name: one.most for one in adaptable(prepared.model) if one.node.name in named}
    if not free:
        message = f"--method {options.method} finds no layer to adapt in {forward.name}: none is trained, plain and free of an adapter."
        raise SchemeError(message, hint="Name more layers (--scheme last:6); depthwise layers, and the last one, have none.")
    samples = some(load(unwritten(compile_model(model, plain), model), data, "train", progress=progress))
    assert options.objective is not None
    found = mean_gradients(forward, options.objective, samples)
    return fitting(model, options, budget_bytes, list(ladders(forward, {name: found[name, "weight"] for name in free}, free)))


def ladders(forward: Graph, gradients: Mapping[str, Array], most: Mapping[str, int]) -> Iterator[Ladder]:
    """Of each layer, by the gradient of its weight, whose first axis counts outputs."""
    weights = {layer.name: layer.parameters["weight"] for layer in layers(forward) if layer.name in gradients}
    read = {name: next(node for node in forward.nodes if weight in node.inputs) for name, weight in weights.items()}
    for name, gradient in gradients.items():
        matrix = gradient.reshape(len(gradient), -1)
        worth = np.square(np.linalg.svd(matrix, compute_uv=False))[: most[name]]
        yield Ladder(name, worth.tolist(), FLOAT_BYTES * sum(matrix.shape), read[name].inputs[0].type.nbytes)


def fitting(model: Path, options: Options, budget_bytes: int | None, given: Sequence[Ladder]) -> Options:
    """The options with as many ranks, in their order, as fit. Raises SchemeError where not even the first does."""
    steps = [ladder.layer for ladder, more in in_order(given) for _ in range(more)]
    tried: dict[int, bool] = {}

    def asked(count: int) -> Options:
        taken = Counter(steps[:count])
        ranks = tuple((one.layer, taken[one.layer]) for one in given if taken[one.layer])
        return dataclasses.replace(options, method=LowRank(ranks=ranks).text)

    def fits(count: int) -> bool:
        if count not in tried:
            costs = Costs(model, asked(count))
            if budget_bytes is None and costs.board.is_host:
                message = f"--method {options.method} fills a budget; found neither --budget nor a board that has bounds."
                raise SchemeError(message, hint="Give --budget 100K, or --board.")
            scheme = chosen_scheme(options.scheme, costs.forward, costs.frozen, costs.options)
            tried[count] = bool(within(costs, budget_bytes)(scheme))
        return tried[count]

    if not fits(1):
        bounds = f"{budget_bytes:,} bytes of RAM" if budget_bytes else f"the memory of {options.board}"
        message = f"--method {options.method}: the last layer and an adapter of rank 1 beside {steps[0]!r} do not fit {bounds}."
        raise SchemeError(message, hint="Give a larger budget, or fewer layers (--scheme last:2).")
    low, high = 1, len(steps) + 1                         # fits; does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return asked(low)


def in_order(given: Iterable[Ladder]) -> Iterator[tuple[Ladder, int]]:
    """(a layer, how many further ranks of it), those that are worth most for their bytes first."""
    taken = Counter[str]()
    left = {one.layer: one for one in given}
    while left:
        best = max(left.values(), key=lambda one: one.best(taken[one.layer])[0])
        _, more = best.best(taken[best.layer])
        if not more:
            del left[best.layer]
            continue
        yield best, more
        taken[best.layer] += more
