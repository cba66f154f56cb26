# SPDX-License-Identifier: Apache-2.0
"""The search for a scheme: the exact one against brute force, evolution and chance; budgets, sweeps and refusals."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from cli_runs import save_model, sentence, succeed

from tinytrain.compiler import Options, compile_model
from tinytrain.schemes.scheme import load
from tinytrain.search.contribution import Candidate, Contribution, Contributions
from tinytrain.search.cost import Costs
from tinytrain.search.evolve import search_evolution, search_random
from tinytrain.search.exact import Plans, search_exact
from tinytrain.search.fill import fill
from tinytrain.search.rows import Explainer
from tinytrain.search.search import Effort, on_board, search, sweep_text, too_small
from tinytrain.search.space import Budget, Choice, Group, Oracle, Selection, Space, Spent, space
from tinytrain.search.sweep import sweep_json

BOARD = "mps2-an500"


def instance(seed: int, groups: int = 5) -> tuple[Space, Oracle, Budget]:
    """A made-up model whose costs do not add up: the peak is a maximum, and going further back keeps more of everything."""
    chance = random.Random(seed)
    gains = [sorted(chance.random() for _ in range(chance.randint(1, 3))) for _ in range(groups)]
    choices = [tuple(Choice(i / len(each), gain) for i, gain in enumerate(each, start=1)) for each in gains]
    made = Space((), tuple(Group(f"layer{g}", "weight", each) for g, each in enumerate(choices)))
    weights, saved = ([chance.randint(5, most) for _ in range(groups)] for most in (30, 60))

    def oracle(selection: Selection) -> Spent:
        kept = [saved[g] if level else 0 for g, level in enumerate(selection)]
        peak = max(sum(kept[:k]) + 20 * (groups - k) * any(kept[:k]) for k in range(groups + 1))
        ram = 100 + sum(weights[g] * level for g, level in enumerate(selection)) + peak
        return Spent(ram, 1000, sum(10 * (groups - g) for g, level in enumerate(selection) if level))

    full = oracle(made.all)
    limit = int(100 + (full.ram_bytes - 100) * chance.uniform(0.2, 0.9))
    assert full.instructions is not None
    return made, oracle, Budget(limit, instructions=full.instructions * 3 // 4 if seed % 2 else None)


def best_of_all(of: Space, oracle: Oracle, budget: Budget) -> float:
    every = itertools.product(*(range(top + 1) for top in of.all))
    return max(of.gain(selection) for selection in every if budget.allows(oracle(selection)))


@pytest.mark.parametrize("seed", range(20))
def test_exact_is_brute_force(seed: int) -> None:
    of, oracle, budget = instance(seed)
    plans = Plans(of, oracle, budget)
    found = search_exact(plans, None, seconds=600)
    assert found.gain == pytest.approx(best_of_all(of, oracle, budget))
    assert found.gap == 0
    assert budget.allows(oracle(found.selection)) and len(plans.known) < np.prod([top + 1 for top in of.all])


@pytest.mark.parametrize("seed", range(20))
def test_exact_is_never_worse_than_evolution_and_evolution_seldom_than_chance(seed: int) -> None:
    of, oracle, budget = instance(seed, groups=8)
    plans = Plans(of, oracle, budget)
    evolved = search_evolution(plans, 100, seed)
    exact = search_exact(plans, None, seconds=0.2)        # whatever it had time for, it began with what evolution found
    drawn = search_random(Plans(of, oracle, budget), 20, seed)
    assert exact.gain >= evolved.gain and exact.bound is not None and exact.bound >= exact.gain
    assert evolved.gain >= drawn.gain or evolved.gain > 0.7 * drawn.gain
    again = search_evolution(Plans(of, oracle, budget), 100, seed)
    assert again.selection == evolved.selection


def test_a_planner_that_takes_less_for_more_misleads_nobody() -> None:
    """What fits although a smaller selection does not is found, once it has been planned, and the cut against it goes."""
    of, plain, _ = instance(0, groups=3)

    def oracle(selection: Selection) -> Spent:
        return Spent(50 if selection == of.all else plain(selection).ram_bytes, 0)

    plans = Plans(of, oracle, Budget(120))
    plans.spent(of.all)
    assert search_exact(plans, None, seconds=600).selection == of.all


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("search"), "cnn")


@pytest.fixture(scope="module")
def costs(cnn: Path) -> Costs:
    return Costs(cnn, Options(board=BOARD, exact_seconds=0))


def contributions(costs: Costs) -> list[Contribution]:
    worth = {"conv1": 0.1, "conv2": 0.3, "fc": 0.4}
    parts = (0.5, 1.0)
    found = [Contribution(Candidate(layer, "weight", part), gain * part**0.5) for layer, gain in worth.items() for part in parts]
    return [*found, *(Contribution(Candidate(layer, "bias-last", depth=3 - i), 0.1 * (3 - i)) for i, layer in enumerate(worth))]


@pytest.fixture(scope="module")
def of_cnn(costs: Costs) -> Space:
    return space(costs.layers, contributions(costs))


@pytest.mark.parametrize("ram", [11_000, 16_000, 21_000])
def test_exact_is_brute_force_with_the_real_planner(costs: Costs, of_cnn: Space, ram: int) -> None:
    def oracle(selection: Selection) -> Spent:
        cost = costs.cost(of_cnn.scheme(selection))
        return Spent(cost.ram_bytes, cost.flash_bytes, cost.instructions)

    budget = Budget(ram, instructions=220_000)
    plans = Plans(of_cnn, oracle, budget)
    found = search_exact(plans, Explainer(costs, of_cnn).rows, seconds=600)
    assert found.gain == pytest.approx(best_of_all(of_cnn, oracle, budget))
    assert found.gap == 0


def test_rows_are_lower_bounds(costs: Costs, of_cnn: Space) -> None:
    """Another order of nodes may save a little, which the search notices where it matters."""
    every = list(itertools.product(*(range(top + 1) for top in of_cnn.all)))
    explainer = Explainer(costs, of_cnn)
    rows = {selection: explainer.rows(selection) for selection in every[::7]}
    for selection in every[::5]:
        cost = costs.cost(of_cnn.scheme(selection))
        claims = [(row.resource, row.value(selection)) for some in rows.values() for row in some]
        excess = [claim / getattr(cost, resource) - 1 for resource, claim in claims]
        assert max(excess) < 0.06 and np.mean(np.array(excess) > 0.001) < 0.05


def test_a_selection_is_a_scheme_that_compiles(cnn: Path, costs: Costs, of_cnn: Space) -> None:
    scheme = of_cnn.scheme((0, 2, 1, 2))
    assert {name: set(kinds) for name, kinds in scheme.layers.items()} == {"conv2": {"weight", "bias"}, "fc": {"weight", "bias"}}
    compiled = compile_model(cnn, Options(board=BOARD, scheme=scheme, exact_seconds=0))
    assert compiled.plan.arena_bytes == costs.cost(scheme).arena_bytes


def test_choices_that_gain_nothing_are_left_out(costs: Costs) -> None:
    found = [Contribution(Candidate("fc", "weight", r), gain) for r, gain in ((0.25, 0.2), (0.5, 0.1), (1.0, 0.3))]
    (group,) = space(costs.layers, [*found, Contribution(Candidate("conv1", "weight", 1.0), -0.1)]).groups
    assert [choice.size for choice in group.choices] == [0.25, 1.0]


def test_larger_budgets_gain_no_less(costs: Costs, of_cnn: Space) -> None:
    budgets = [Budget(n) for n in (1000, 12_000, 16_000, 25_000)]
    first, *others = search(costs, of_cnn, budgets, Effort(evaluations=30, seconds=600))
    assert first is None and all(others)
    gains = [one.found.gain for one in others if one]
    assert gains == sorted(gains) and gains[-1] == pytest.approx(of_cnn.gain(of_cnn.all))


@pytest.fixture(scope="module")
def analysis(cnn: Path, costs: Costs) -> Path:
    path = cnn.with_name("contribution.json")
    Contributions("cnn.onnx", costs.prepared.hash.hex(), "trained", 0.1, {}, tuple(contributions(costs))).save(path)
    return path


def test_search_writes_a_scheme(cnn: Path, analysis: Path) -> None:
    out = cnn.with_name("found.toml")
    text = succeed(
        "search", cnn, "--contribution", analysis, "--board", BOARD, "--sram", "14K", "--flash", "1M", "--step-instructions", "1M",
        "--evaluations", 30, "--seconds", 600, "-o", out,
    )
    assert "gap 0.0 %" in text and "B of RAM" in text
    assert load(out).layers


def test_a_sweep_says_where_no_scheme_is_written(cnn: Path, analysis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tinytrain.toml").write_text('budget = "9K"\n')         # of a single search: left out of a sweep
    common = "search", cnn, "--contribution", analysis, "--board", BOARD, "--evaluations", 20, "-o", "s.toml", "--sweep"
    assert succeed(*common, "2K,3K").endswith("scheme     s.toml is not written: nothing that fits the last budget gains anything\n")
    assert not Path("s.toml").exists()
    assert "--sram and --sweep are both given" in sentence(*common, "2K,3K", "--sram", "9K")


def test_sweep_is_a_table_and_a_plot(cnn: Path, analysis: Path) -> None:
    plot, report = cnn.with_name("pareto.png"), cnn.with_name("sweep.json")
    pytest.importorskip("matplotlib")
    text = succeed("search", cnn, "--contribution", analysis, "--board", BOARD, "--sweep", "3K:21K:9K", "--evaluations", 20, "--plot", plot,
                   "--report", report)
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["3,072", "12,288", "21,504"] and "nothing gains" in text
    assert plot.read_bytes().startswith(b"\x89PNG")
    found = json.loads(report.read_text())
    assert [point["budget_bytes"] for point in found["points"]] == [12_288, 21_504] and found["board"]["name"] == BOARD
    assert all(point["ram_bytes"] <= point["budget_bytes"] and point["accuracy"] is None for point in found["points"])


def test_a_search_keeps_to_the_board(cnn: Path, of_cnn: Space) -> None:
    """Whose memory is less than the budget: what is found fits, as do presets beside it; a refusal says who has less."""
    small, budget = Costs(cnn, Options(board="stm32vldiscovery", exact_seconds=0)), Budget(None, 1 << 20)
    (one,) = search(small, of_cnn, [budget], Effort(evaluations=20, seconds=600))
    assert one is not None and one.found.gain < of_cnn.gain(of_cnn.all)
    assert all(each.cost.room is not None and each.cost.room.fits for each in (one, *one.presets))
    assert re.search(r"head`, the last layer alone, takes [\d,]+ bytes of RAM, stm32vldiscovery has 8,\d+", str(too_small(small, budget)))
    assert on_board(small, Budget(9)).ram_bytes == 9 and on_board(small, budget).ram_bytes == 8192


def test_presets_that_do_not_fit_are_left_out(costs: Costs, of_cnn: Space) -> None:
    """Where the head does not fit whole, biases may; a preset has none of the budget's room then, and is none that fills it."""
    least = costs.cost(fill("last:auto", costs, lambda scheme: False)).ram_bytes
    for chosen in search(costs, of_cnn, [Budget(n) for n in (least - 1, least, 14_000)], Effort(evaluations=20, seconds=600)):
        if chosen is not None:
            assert all(preset.cost.ram_bytes <= (chosen.budget.ram_bytes or 0) for preset in chosen.presets)
            assert all("at least" in preset.text() for preset in chosen.presets)


def test_a_sweep_says_what_presets_reached(costs: Costs, of_cnn: Space) -> None:
    chosen = search(costs, of_cnn, [Budget(1000), Budget(14_000)], Effort(evaluations=20, seconds=600))
    presets: list[dict[str, float | None]] = [{}, {"last:auto": 0.5, "spread:auto": 0.625}]
    heading, first, last = sweep_text(chosen, [Budget(1000), Budget(14_000)], [None, 0.75], presets).splitlines()
    assert heading.split()[-3:] == ["accuracy", "last:auto", "spread:auto"] and "contributions" in heading
    assert first.endswith("nothing gains") and last.split()[-3:] == ["75.0%", "50.0%", "62.5%"]
    (point,) = sweep_json(costs, chosen, [None, 0.75], presets)["points"]
    assert point["presets"] == presets[1] and point["gained"] == "contributions"


@pytest.mark.parametrize(("given", "said"), [
    (("--sram", "2K"), "even `head`, the last layer alone, takes"),
    (("--sram", "2K"), "the budget is 2,048"),
    ((), "No budget is given; expected --sram, --flash, --step-instructions or --sweep."),
    (("--sram", "many"), "many is not an amount like 150K."),
    (("--sweep", "1K:2K"), "1K:2K is not a range like 60K:150K:30K."),
    (("--sram", "9K", "--sweep", "9K"), "--sram and --sweep are both given"),
    (("--sram", "9K", "--plot", "p.png"), "--plot is of a sweep."),
    (("--sram", "9K", "--report", "r.json"), "--report has no effect without --sweep."),
    (("--sram", "9K", "--measure"), "--measure needs samples to train on."),
    (("--sram", "9K", "--scheme", "bias"), "a search finds the scheme itself"),
    (("--step-instructions", "1M", "--board", "host"), "no instructions were counted on host"),
])
def test_refusals_say_why(cnn: Path, analysis: Path, given: tuple[str, ...], said: str) -> None:
    board = () if "--board" in given else ("--board", BOARD)
    assert said in sentence("search", cnn, "--contribution", analysis, *board, *given)


def test_an_analysis_of_another_model_is_refused(cnn: Path, analysis: Path) -> None:
    other = cnn.with_name("other.json")
    dataclasses.replace(Contributions.load(analysis), model_sha256="00").save(other)
    assert "is an analysis of cnn.onnx, which is not" in sentence("search", cnn, "--contribution", other, "--sram", "20K")
    assert "Nothing says what training a layer is worth." in sentence("search", cnn, "--sram", "20K")
