# SPDX-License-Identifier: Apache-2.0
"""What could be compiled in place of what was asked for: schemes, ways to store numbers, boards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np

from tinytrain.compiler import Options
from tinytrain.data.given import Given, Source
from tinytrain.errors import ModelError, SchemeError
from tinytrain.frontend.onnx_import import import_model
from tinytrain.frontend.ports import Port
from tinytrain.frontend.prepare import FOLDED, prepare
from tinytrain.ir.graph import Graph
from tinytrain.quantise.convert import quantise_model
from tinytrain.quantise.lockstep import Options as Quantise
from tinytrain.quantise.normalise import refuse_quantised
from tinytrain.report.live import Quiet
from tinytrain.schemes.scheme import Scheme, layers, preset
from tinytrain.search.cost import Costs, SchemeCost
from tinytrain.search.fill import check_bounds, fill, within
from tinytrain.target.board import Board, board_names, load_board

DTYPES = ("fp32", "fp16", "int8")
_SAMPLES = 8                                              # sizes and times do not depend on what ranges are


@dataclass(frozen=True)
class Candidate:
    """A scheme on a board; `asks` is what it takes besides --board and --scheme of `compile`, `over_bytes` of RAM what it takes beyond the
    budget."""

    board: Board
    dtype: str
    scheme: str
    asks: str
    cost: SchemeCost
    over_bytes: int = 0

    @property
    def fits(self) -> bool:
        return not self.over_bytes and (self.cost.room is None or self.cost.room.fits)


@dataclass(frozen=True, eq=False)
class Variant:
    """A model whose numbers are stored as `dtype`; `asks` as in `Candidate`."""

    dtype: str
    costs: Costs
    asks: str

    @cached_property
    def schemes(self) -> tuple[Scheme, ...]:
        """Presets, the one that trains most first."""
        return presets(self.costs.forward)

    def on(self, board: Board, scheme: Scheme | str, budget_bytes: int | None = None) -> Candidate:
        """`scheme` is one of its own, or the name of a preset that fills so many bytes of RAM, or the board.

        Raises SchemeError where there is neither.
        """
        costs = self._costs(board)
        if isinstance(scheme, str):
            check_bounds(scheme, costs, budget_bytes)
            scheme = fill(scheme, costs, within(costs, budget_bytes))
        cost = costs.cost(scheme)
        over_bytes = 0 if budget_bytes is None else max(cost.ram_bytes - budget_bytes, 0)
        return Candidate(board, self.dtype, scheme.preset, self.asks, cost, over_bytes)

    def _costs(self, board: Board) -> Costs:
        return self._placed.setdefault(board.name, self.costs.on(board))

    @cached_property
    def _placed(self) -> dict[str, Costs]:
        return {}

    def hopeless(self, board: Board, scheme: Scheme | str) -> bool:
        """Whether what a scheme trains is more than all RAM of a board, which needs no plan to see."""
        if isinstance(scheme, str):
            return False
        sizes = {(layer.name, kind): v.type.nbytes for layer in self.costs.layers for kind, v in layer.parameters.items()}
        trained = sum(sizes[layer, kind] for layer, kinds in scheme.layers.items() for kind, part in kinds.items() if part.whole)
        return not board.is_host and trained > sum(m.bytes for m in board.rams)

    def family(self, board: Board) -> str:
        """Boards of one are planned together, one after another."""
        return repr(self._costs(board).family)


def presets(forward: Graph) -> tuple[Scheme, ...]:
    """`full`, `last:K` for some K, `bias`, and `batchnorm` where there are any: the one that trains most first, none twice."""
    number = len(layers(forward))
    names = ["full", *(f"last:{k}" for k in reversed(depths(number))), "bias", "batchnorm"]
    found: dict[str, Scheme] = {}
    for name in names:
        try:
            scheme = preset(name, forward)
        except SchemeError:
            continue                                      # no batch norm is left
        if trained(scheme, forward):
            found.setdefault(repr(scheme.layers), scheme)
    return tuple(sorted(found.values(), key=lambda scheme: -trained(scheme, forward)))


def trained(scheme: Scheme, forward: Graph) -> int:
    """How many numbers a preset trains."""
    sizes = {(layer.name, kind): v.type.numel for layer in layers(forward) for kind, v in layer.parameters.items()}
    return sum(sizes[layer, kind] for layer, kinds in scheme.layers.items() for kind in kinds)


def depths(layer_number: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, …: those K of `last:K` that are tried, all below the number of layers."""
    found: list[int] = []
    for power in count():
        for k in (2**power, 3 * 2**power // 2):
            if k >= layer_number:
                return found
            if k not in found:
                found.append(k)
    raise AssertionError


def real_boards() -> list[Board]:
    """The kits that can be bought, the cheapest first."""
    return cheapest_first([board for board in map(load_board, board_names()) if board.real])


def cheapest_first(boards: Sequence[Board]) -> list[Board]:
    """By price; those of which no price is known behind them, by RAM and flash."""
    def key(board: Board) -> tuple[float, int, int, str]:
        ram, flash = (sum(m.bytes for m in memories) for memories in (board.rams, board.flashes))
        return board.price_usd or float("inf"), ram, flash, board.name

    return sorted(boards, key=key)


def is_quantised(model: Path, options: Options) -> bool:
    """Whether a model is int8 already. Raises ModelError for what is no model."""
    prepared = prepare(model, shapes=options.shapes)
    try:
        refuse_quantised(prepared)
    except ModelError:
        return True
    return False


def variant(model: Path, options: Options, dtype: str, data: Source | None, folder: Path) -> Variant:
    """The model with its numbers stored like that; the int8 form of an fp32 one is written to `folder`.

    It is calibrated on samples of `data`, or on random ones, which is good for sizes and times. Raises TinytrainError.
    """
    if dtype == "int8":
        return Variant(dtype, Costs(quantised(model, options, data, folder), options), "after tinytrain quantize")
    asks = "--dtype fp16" if dtype == "fp16" else ""
    return Variant(dtype, Costs(model, replace(options, dtype=dtype)), asks)  # type: ignore[arg-type]


def with_batchnorms(made: Variant, model: Path) -> Variant | None:
    """The same with its batch norms kept; None where none was folded, or none has anything to train."""
    options = made.costs.options
    if made.dtype == "int8" or not any(became.startswith(FOLDED) for became in made.costs.prepared.became.values()):
        return None
    costs = Costs(model, replace(options, fold_batchnorm=False))
    has_any = any("gamma" in layer.parameters for layer in costs.layers)
    return Variant(made.dtype, costs, f"{made.asks} --keep-batchnorm".strip()) if has_any else None


def quantised(model: Path, options: Options, data: Source | None, folder: Path) -> Path:
    """Path of the model in int8."""
    if is_quantised(model, options):
        return model
    source = data or _random(import_model(prepare(model, shapes=options.shapes)).input)
    made = quantise_model(model, source, Quantise(samples=_SAMPLES, shapes=options.shapes), Quiet())
    path = folder / f"{model.stem}.onnx"
    path.write_bytes(made.model.SerializeToString())
    return path


def _random(port: Port) -> Given:
    shape = port.onnx_shape[1:]
    return Given(np.random.default_rng(0).standard_normal((_SAMPLES, *shape)).astype(np.float32))
