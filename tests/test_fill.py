# SPDX-License-Identifier: Apache-2.0
"""Presets that fill a budget: what they take of it, where they refuse, and that compile, scheme, fit and init agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runs import run, save_model, sentence, succeed

import tinytrain
from tinytrain.compiler import Options, compile_model
from tinytrain.emit.fit import reserved_bytes
from tinytrain.errors import SchemeError, TinytrainError
from tinytrain.gradient.methods import METHODS
from tinytrain.schemes.scheme import AUTO, Scheme, preset
from tinytrain.search.cost import Costs
from tinytrain.search.fill import drawn, filled, resolved, within


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models"), "mlp")


@pytest.fixture(scope="module")
def costs(model: Path) -> Costs:
    return Costs(model, Options())


@pytest.mark.parametrize("name", AUTO)
def test_it_fits_and_is_the_same_each_time(costs: Costs, name: str) -> None:
    for budget in (4500, 7000, 10_000):
        found = resolved(costs, name, budget)
        assert found.preset == name and costs.cost(found).ram_bytes <= budget
        assert found == resolved(Costs(costs.prepared.path, costs.options), name, budget)


def test_last_is_last_k_and_part_of_the_layer_before(costs: Costs) -> None:
    found = resolved(costs, "last:auto", 7000)
    parts = [costs.layers[-i].name for i in range(1, len(found.layers) + 1)]
    assert list(found.layers) == parts[::-1], "neighbours up to the end"
    _, *others = found.layers.values()
    assert all(select.whole for kinds in others for select in kinds.values())
    deepest = preset(f"last:{len(found.layers)}", costs.forward)
    assert found.layers == deepest.layers or costs.cost(deepest).ram_bytes > 7000


def test_spread_trains_less_of_more_weights(costs: Costs) -> None:
    last, spread = (resolved(costs, name, 7000) for name in AUTO)
    weights = [[kinds["weight"].fraction for kinds in found.layers.values() if "weight" in kinds] for found in (last, spread)]
    assert len(weights[1]) > len(weights[0]) and weights[1][0] < 1 == weights[1][-1]


def test_chance_fills_the_budget_too(costs: Costs) -> None:
    fits = within(costs, 7000)
    first, again, other = (drawn(costs, fits, seed) for seed in (1, 1, 2))
    assert first == again != other and fits(first) and fits(other)
    assert costs.layers[-1].name in first.layers


def test_everything_where_there_is_room(costs: Costs) -> None:
    for name in AUTO:
        assert resolved(costs, name, 20_000).layers == preset("full", costs.forward).layers


def test_a_board_without_a_budget_is_filled(model: Path) -> None:
    on_board = Costs(model, Options(board="mps2-an500"))
    found = on_board.cost(resolved(on_board, "last:auto", None))
    assert found.room is not None and found.room.fits


def test_refusals(costs: Costs) -> None:
    with pytest.raises(SchemeError, match=r"spread:auto: the last of mlp cannot be trained in 1,024 bytes of RAM: even bias of layer .fc3"):
        resolved(costs, "spread:auto", 1024)
    with pytest.raises(SchemeError, match="fills a budget; found neither --budget nor a board"):
        resolved(costs, "last:auto", None)
    with pytest.raises(SchemeError, match="fills a budget of RAM, and here is none"):
        preset("last:auto", costs.forward)


OWN_WORDS = {                                             # of methods that no preset fills a budget for
    "cascaded": "trains what it puts beside the model", "ladder": "trains what it puts beside the model",
    "green": "chooses among the schemes that are compiled", "lowrank": "(last|spread):auto names none yet",
    "noprop": "--method noprop",
}


@pytest.mark.parametrize("auto", AUTO)
@pytest.mark.parametrize("how", METHODS)
def test_each_method_takes_it_or_says_why(model: Path, how: str, auto: str) -> None:
    """A budget for all of the model is filled, also by methods that do not take its last layer alone."""
    options = Options(scheme=auto, method=how, exact_seconds=0)
    if how in OWN_WORDS:
        with pytest.raises(TinytrainError, match=OWN_WORDS[how]):
            compile_model(model, filled(model, options, 60_000))
        return
    chosen = filled(model, options, 60_000).scheme
    assert isinstance(chosen, Scheme) and chosen.layers == preset("full", Costs(model, options).forward).layers
    with pytest.raises(SchemeError, match=r"(takes nothing that can|cannot) be trained in 1,024 bytes of RAM"):
        filled(model, options, 1024)


def test_a_method_of_blocks_fills_what_it_takes(model: Path) -> None:
    """The head alone is too little for it, all is too much."""
    options = Options(scheme="last:auto", method="local", exact_seconds=0)
    made = compile_model(model, filled(model, options, 7000))
    assert len(made.schemes[0].layers) == 2 and made.plan.arena_bytes + reserved_bytes(made.program, made.board) <= 7000


def test_commands_agree(model: Path, tmp_path: Path) -> None:
    file, budget = tmp_path / "s.toml", ("--budget", 7000)
    shown = succeed("scheme", "show", model, "--scheme", "spread:auto", *budget, "-o", file)
    assert 'preset = "spread:auto"' in file.read_text()
    compiled = tinytrain.load(model).compile(scheme="spread:auto", budget=7000).compiled
    assert compiled.schemes[0].to_toml() == file.read_text()
    ram = shown.partition("RAM ")[2].split(" B planned")[0].strip()
    assert int(ram.replace(",", "")) <= 7000
    row = succeed("fit", model, "--scheme", "spread:auto", *budget, "--board", "mps2-an500", "--dtype", "fp32")
    assert "spread:auto" in row and "fits, " in row


def test_fit_knows_what_does_not_fit(model: Path) -> None:
    """A budget that not even the least takes is no answer, nor is one that nobody gave."""
    call = ("fit", model, "--scheme", "last:auto", "--dtype", "fp32")
    row = next(line for line in succeed(*call, "--budget", 1024, "--board", "mps2-an500").splitlines() if "last:auto" in line)
    assert "over the budget" in row and "fits" not in row
    said = json.loads(run(*call, "--budget", 1024, "--board", "mps2-an500", "--json").stdout)["rows"]
    assert [one["fits"] for one in said] == [False]
    assert "--scheme last:auto fills a budget; found neither --budget nor a board that has bounds." in sentence(*call, "--board", "host")
    assert "\nhost " not in succeed(*call, "--board", "host", "--board", "mps2-an500")


def test_bad_input(model: Path) -> None:
    assert "--budget has no effect without --scheme last:auto|spread:auto." in sentence("scheme", "show", model, "--budget", "9K")
    two = sentence("compile", model, "--scheme", "full", "--scheme", "last:auto", "--budget", 7000, "-o", model.parent / "out")
    assert "--scheme last:auto fills the budget by itself; expected no other --scheme beside it." in two


def test_a_scheme_given_by_hand_stays(costs: Costs) -> None:
    given = Scheme(preset("head", costs.forward).layers)
    assert resolved(costs, given, None) == given
