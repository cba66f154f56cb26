# SPDX-License-Identifier: Apache-2.0
"""Search by training whole schemes: what it tries, what it keeps, what it says of its choice, and its refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from cli_runs import sentence, succeed

from tinytrain import zoo
from tinytrain.compiler import Options
from tinytrain.errors import SchemeError
from tinytrain.schemes.scheme import AUTO, Scheme, load
from tinytrain.search import sweep
from tinytrain.search.contribution import Candidate, Contribution, Contributions
from tinytrain.search.cost import Costs
from tinytrain.search.fill import Filler, within
from tinytrain.search.halving import BIASES, Halving, Tries, Worth, halve, layer_effects
from tinytrain.search.search import Effort, Method, search_trained, sweep_text
from tinytrain.search.space import Budget
from tinytrain.search.trainings import REFUSED, Trainings

BUDGET = 7000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("halving") / "mlp.onnx"
    onnx.save(zoo.model("mlp"), path)
    return path


@pytest.fixture(scope="module")
def costs(model: Path) -> Costs:
    return Costs(model, Options())


class Made:
    """Trainings whose worth is known: the more of the first layer the better, and the less is trained the higher the best rate."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self.asked: list[tuple[int, int, int]] = []

    def __call__(self, tries: Tries, first: int, count: int) -> list[list[list[Worth]]]:
        self.asked.append((len(tries), first, count))
        return [[[self.worth(scheme, rate, seed) for seed in range(first, first + count)] for rate in rates] for scheme, rates in tries]

    def worth(self, scheme: Scheme, rate: float, seed: int) -> Worth:
        select = scheme.layers.get(self.costs.layers[0].name, {}).get("weight")
        best = 1.0 if select else 3.0
        return Worth((select.fraction if select else 0.0) - abs(rate - best) / 10 + 0.001 * seed, 0.0)


def test_the_best_half_trains_on(costs: Costs) -> None:
    made, fits = Made(costs), within(costs, BUDGET)
    trials = halve(costs, fits, {"nothing": Scheme({})}, Halving(8, 4, rates=(1.0, 3.0)), made)
    count = len(trials)
    assert [(first, trained) for _, first, trained in made.asked] == [(0, 1), (0, 1), (1, 1), (2, 2)]
    assert made.asked[2][0] == -(-count // 2) and made.asked[3][0] == -(-made.asked[2][0] // 2)
    assert [len(one.worths) for one in trials] == sorted((len(one.worths) for one in trials), reverse=True)
    assert {*AUTO, BIASES} <= {one.name for one in trials} and "nothing" not in {one.name for one in trials}
    assert all(fits(one.scheme) and one.cost.ram_bytes <= BUDGET for one in trials)
    assert len({repr(one.scheme.layers) for one in trials}) == count, "each once"
    assert trials[0].score == max(one.score for one in trials if len(one.worths) == 4)


def test_a_scheme_has_its_best_rate_in_its_layers(costs: Costs) -> None:
    trials = halve(costs, within(costs, BUDGET), {}, Halving(2, 1, rates=(1.0, 3.0)), Made(costs))
    for one in trials:
        first = "weight" in one.scheme.layers.get(costs.layers[0].name, {})
        assert one.rate == (1.0 if first else 3.0)
        assert one.chosen.rates == ({} if first else dict.fromkeys(one.scheme.layers, 3.0))


def test_nothing_is_tried_where_nothing_fits(costs: Costs) -> None:
    assert halve(costs, within(costs, 100), {}, Halving(4), Made(costs)) == []


def test_effects_are_of_layers_that_some_train_and_some_do_not(costs: Costs) -> None:
    trials = halve(costs, within(costs, BUDGET), {}, Halving(12, 1), Made(costs))
    effects = dict(layer_effects(trials))
    assert effects[costs.layers[0].name] > 0 and costs.layers[-1].name not in effects, "all train the last layer"


def test_biases_and_head(costs: Costs) -> None:
    filler = Filler(costs.forward, costs.layers, within(costs, 100_000))
    *before, last = filler.scheme(filler.biases()).layers.values()
    assert len(before) == len(costs.layers) - 1 and all(set(kinds) == {"bias"} for kinds in before) and "weight" in last


@pytest.fixture(scope="module")
def data(model: Path) -> Path:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 64))
    y = np.arange(100) % 10
    path = model.with_name("data.npz")
    np.savez(path, x=(centres[y] + rng.normal(0, 0.3, (100, 64))).astype(np.float32), y=y)
    return path


def test_search_trains_and_explains(model: Path, data: Path) -> None:
    out = model.with_name("found.toml")
    text = succeed(
        "search", model, "--data", data, "--sram", BUDGET, "--method", "halving", "--trials", 2, "--lr-factors", "1,3", "--epochs", 1,
        "--seeds", 1, "--measure", "--lr", 0.01, "-o", out,
    )
    assert "learned best of" in text and "points gained" in text and "accuracy" in text
    for name in AUTO:
        assert f"{name} " in text
    scheme = load(out)
    assert set(scheme.rates) <= set(scheme.layers)


class Known(Trainings):
    """Trainings of a made worth, and which seeds were asked for."""

    def __init__(self, worth: Callable[[Scheme], float]) -> None:
        self.__dict__.update(worth=worth, seeds=[])

    labelled = True

    def worths(self, tries: Tries, first: int, count: int) -> list[list[list[Worth]]]:
        return [[[Worth(self.worth(scheme), 0.0)] * count for _ in rates] for scheme, rates in tries]

    def accuracies(self, schemes: Sequence[Scheme], first: int, count: int) -> list[float | None]:
        self.seeds.append((first, count))
        return [0.5 + self.worth(scheme) for scheme in schemes]


@pytest.mark.parametrize("gain", [0.0, REFUSED.gain])
def test_what_gains_nothing_is_refused(costs: Costs, gain: float) -> None:
    """Where all schemes lose, or none was taken by the compiler after all."""
    effort, trainings = Effort("halving", schemes=2, seeds=1), Known(lambda scheme: gain)
    with pytest.raises(SchemeError, match="Of what fits into the budget, nothing gains anything for mlp"):
        search_trained(costs, {}, [Budget(BUDGET)], effort, trainings)
    assert search_trained(costs, {}, [Budget(100), Budget(BUDGET)], effort, trainings) == [None, None]


def test_ties_and_what_is_gained_are_said(costs: Costs) -> None:
    trainings = Known(lambda scheme: 0.25)
    (one,) = search_trained(costs, {}, [Budget(BUDGET)], Effort("halving", schemes=2, seeds=1), trainings)
    assert one is not None and "; as well learned " in one.text() and one.trials[1].name in one.text().split("; as well learned ")[1]
    text = sweep_text([one], [one.budget], [None], [{}])
    assert "accuracy gained" in text and "contributions" not in text


def test_it_keeps_to_the_board(model: Path) -> None:
    """Of which the budget knows nothing."""
    small = Costs(model, Options(board="stm32vldiscovery"))
    (one,) = search_trained(small, {}, [Budget(None, 1 << 20)], Effort("halving", schemes=4, seeds=1), Known(lambda scheme: 0.1))
    assert one is not None and all(trial.cost.room is not None and trial.cost.room.fits for trial in one.trials)


@pytest.mark.parametrize("method", get_args(Method))
def test_other_seeds_judge_than_choose(method: Method) -> None:
    trainings = Known(lambda scheme: 0.1)
    sweep._measured(sweep.Request(method=method, measure=True, seeds=3), [], trainings)
    assert trainings.seeds == [(3, 3)]


def test_it_goes_on_where_sums_say_nothing(model: Path, data: Path, costs: Costs) -> None:
    """An analysis by which nothing gains anything gives it nothing to start from, and no reason to stop."""
    analysis = model.with_name("nothing.json")
    nothing = Contribution(Candidate(costs.layers[-1].name, "weight", 1.0), -0.1)
    Contributions("mlp.onnx", costs.prepared.hash.hex(), "trained", 0.1, {}, (nothing,)).save(analysis)
    common = "search", model, "--contribution", analysis, "--data", data, "--sram", BUDGET, "--epochs", 1, "--seeds", 1, "--lr", 0.01
    assert "No candidate of the analysis gains anything" in sentence(*common)
    assert "learned best of" in succeed(*common, "--method", "halving", "--trials", 2, "--lr-factors", "1")


@pytest.mark.parametrize(("given", "said"), [
    (("--method", "halving"), "--method halving trains schemes, and there are no samples."),
    (("--trials", "4"), "--trials has no effect without --method halving."),
    (("--lr-factors", "1,3"), "--lr-factors has no effect without --method halving."),
    (("--method", "halving", "--data", "d.npz", "--lr-factors", "1,0"), "--lr-factors has 0; expected factors"),
    (("--method", "halving", "--data", "d.npz", "--lr-factors", "1,x"), "1,x is not numbers"),
])
def test_refusals(model: Path, given: tuple[str, ...], said: str) -> None:
    assert said in sentence("search", model, "--sram", "9K", *given)
