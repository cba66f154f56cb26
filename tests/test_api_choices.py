# SPDX-License-Identifier: Apache-2.0
"""Choices of `Model.compile`: each is checked by its type, and is that of an option of the command line."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, get_type_hints

import click
import numpy as np
import pytest
from cli_runs import save_model

import tinytrain as tt
from tinytrain.api import choices
from tinytrain.api.values import Number, kinds
from tinytrain.cli.main import main
from tinytrain.errors import TinytrainError

SAMPLES = np.zeros((6, 1, 8, 8), np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choices")
    save_model(folder, "cnn")
    return folder


CHOICES = {
    "a word": ({"optimiser": "sdg"}, "optimiser is 'sdg'; expected one of sgd, adam, adamw, adagrad, rmsprop."),
    "a range": ({"momentum": 1.0}, "momentum is 1.0; expected a number from 0 to 1, without 1."),
    "not a number": ({"lr": float("nan")}, "lr is nan; expected a number of at least 0 or auto."),
    "text": ({"lr": "0.1"}, "lr is '0.1'; expected a number of at least 0 or auto."),
    "a part": ({"accumulate": 1.5}, "accumulate is 1.5; expected a whole number of at least 1."),
    "neither": ({"qas": 1}, "qas is 1; expected True or False."),
    "a name": ({"momentun": 0.9}, "There is no choice called momentun.\nDid you mean momentum"),
    "together": ({"nesterov": True}, "--nesterov has no effect with momentum 0"),
    "a memory of nothing": ({"scheme": "none", "replay": "8"}, "--replay has no effect with --scheme none, which trains nothing."),
    "a memory without bounds": ({"loss": "entropy", "replay": "8"}, "again whatever the bounds of --loss entropy say"),
    "updates": ({"schedule": "step"}, "as many updates as samples, times 1 + what --replay trains behind each, divided by --accumulate."),
    "cores": ({"cores": 0}, "cores is 0; expected a whole number of at least 1."),
    "loss": ({"loss": "mes"}, "mes"),
    "tolerance": ({"dtype": "int8", "calibration": SAMPLES, "tolerance": 0.1}, "--fp16-tolerance has no effect with --dtype int8"),
    "board": ({"board": "arduino"}, "There is no board 'arduino'"),
    "no scheme": ({"scheme": []}, "No scheme is given"),
    "before int8": ({"dtype": "int8", "calibration": np.zeros((1, 9)), "nesterov": True}, "--nesterov has no effect with momentum 0"),
}


def test_weights_as_an_array(folder: Path) -> None:
    weights = np.array([1.0, 2.0, *[0.5] * 8])
    made = tt.load(folder / "cnn.onnx").compile(class_weights=weights)
    assert made.compiled.options.loss_options["class_weights"] == tuple(weights)


@pytest.mark.parametrize("case", CHOICES)
def test_choices_that_cannot_be(case: str, folder: Path) -> None:
    given, said = CHOICES[case]
    with pytest.raises(TinytrainError) as error:
        tt.load(folder / "cnn.onnx").compile(**given)     # type: ignore[arg-type]
    assert said in str(error.value)


@pytest.mark.parametrize(("given", "said"), [
    ({"method": "median"}, "method is 'median'; expected one of minmax, percentile, mse."),
    ({"percentile": 500}, "percentile is 500; expected a number from 50 to 100, without 50."),
    ({"samples": 0}, "samples is 0; expected a whole number of at least 1."), ({"adaround": 1}, "adaround is 1; expected True or False."),
])
def test_a_quantisation_that_cannot_be(given: dict[str, Any], said: str, folder: Path) -> None:
    with pytest.raises(TinytrainError) as error:
        tt.load(folder / "cnn.onnx").quantise(SAMPLES, **given)
    assert said in str(error.value)


@pytest.fixture(scope="module")
def compiling() -> click.Context:
    command = main.get_command(click.Context(main), "compile")
    assert command is not None
    return command.make_context("compile", ["model.onnx", "-o", "out"])


@pytest.mark.parametrize("name", choices.DEFAULTS)
def test_an_option_of_compile_takes_what_its_choice_does(name: str, compiling: click.Context) -> None:
    given, default = compiling.params[name], choices.DEFAULTS[name]                # type: ignore[literal-required]
    assert given == default or (not given and not default)
    option = {p.name: p for p in compiling.command.params}[name]
    hint = get_type_hints(choices.Choices, include_extras=True)[name]
    for kind in kinds(hint):
        if typing.get_origin(kind) is typing.Literal and len(typing.get_args(kind)) == 1:
            word = typing.get_args(kind)[0]               # in place of numbers
            assert getattr(option.type, "word", None) == word or option.metavar.endswith(f"|{word}")
        elif typing.get_origin(kind) is typing.Literal:
            assert isinstance(option.type, click.Choice)
            assert set(option.type.choices) == set(typing.get_args(kind)) - ({"int8"} if name == "dtype" else set())
        elif typing.get_origin(kind) is typing.Annotated:
            number: Number = typing.get_args(kind)[1]
            assert isinstance(option.type, (click.FloatRange, click.IntRange)), name
            kind, most = option.type, np.inf if option.type.max is None else option.type.max
            assert (kind.min, most) == (number.least, number.most)
            assert (kind.min_open, kind.max_open) == (number.open == "least", number.open == "most")
            assert number.whole == isinstance(option.type, click.IntRange)
