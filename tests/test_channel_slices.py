# SPDX-License-Identifier: Apache-2.0
"""Updating a part of a weight: the same bits as in a full update there, the same weights as before elsewhere, and only the part in RAM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from tinytrain import zoo
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.project import Project
from tinytrain.emit.golden import golden_vectors
from tinytrain.errors import SchemeError
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.types import Array, Role
from tinytrain.learn.weights import parameters
from tinytrain.schemes.scheme import Scheme, Select

WHOLE = Select()


def compiled(folder: Path, model: str, selected: dict[str, dict[str, Select]], **options: Any) -> Compiled:
    (folder / "m.onnx").write_bytes(zoo.model(model).SerializeToString())
    return compile_model(folder / "m.onnx", Options(scheme=Scheme(selected), **options))


def learned(folder: Path, made: Compiled) -> dict[str, Array]:
    """Initializers after three steps of the host twin, in ONNX layout."""
    golden = golden_vectors(made.program, 3)
    write(made, folder / "project", force=True)
    project = Project.open(folder / "project")
    with project.session() as session:
        for x, target in zip(golden.x, golden.target, strict=True):
            session.train_step(x, target)
        return parameters(project, session)[0]


def initializer(model: str, name: str) -> Array:
    return numpy_helper.to_array(next(t for t in zoo.model(model).graph.initializer if t.name == name))


@pytest.mark.parametrize(("model", "layer", "part", "onnx_axis"), [
    ("cnn", "conv2", Select(channels=(2, 3, 4)), 1), ("cnn", "conv2", Select(channels=(0, 1, 2)), 1),
    ("cnn", "conv2", Select(channels=(1, 5, 6)), 1), ("cnn", "conv2", Select(channels=(3, 11, 15), side="out"), 0),
    ("cnn", "conv1", Select(channels=(4, 5), side="out"), 0),
    ("mlp", "fc2", Select(channels=tuple(range(25, 32))), 1), ("mlp", "fc1", Select(channels=(0, 31), side="out"), 0),
])
def test_part_is_that_of_a_full_update(model: str, layer: str, part: Select, onnx_axis: int, tmp_path: Path) -> None:
    # the last update of an accumulated step sees the same weights in both schemes, so its gradients are the same
    optimiser = Optimiser(0.05, momentum=0.9, accumulate=3)
    name = f"{layer}_weight"
    full = learned(tmp_path, compiled(tmp_path, model, {layer: {"weight": WHOLE}}, optimiser=optimiser))[name]
    made = compiled(tmp_path, model, {layer: {"weight": part}}, optimiser=optimiser)
    sliced = learned(tmp_path, made)[name]
    before = initializer(model, name)
    chosen = list(part.channels)
    others = [i for i in range(before.shape[onnx_axis]) if i not in chosen]
    np.testing.assert_array_equal(sliced.take(others, onnx_axis), before.take(others, onnx_axis))
    assert not np.array_equal(sliced.take(chosen, onnx_axis), before.take(chosen, onnx_axis))
    # channels in another order are added up in another order
    np.testing.assert_allclose(sliced.take(chosen, onnx_axis), full.take(chosen, onnx_axis), rtol=0, atol=2e-6)
    (param,) = made.program.stored(Role.PARAM)
    assert param.type.numel == before.size // before.shape[onnx_axis] * len(chosen), "more than the part lives in RAM"


@pytest.mark.parametrize(("model", "layer", "first", "end"), [("cnn", "conv2", 0, 3), ("mlp", "fc2", 0, 7)])
def test_first_channels_are_updated_bit_for_bit_as_all_are(model: str, layer: str, first: int, end: int, tmp_path: Path) -> None:
    optimiser = Optimiser(0.05, momentum=0.9, accumulate=3)
    name = f"{layer}_weight"
    full = learned(tmp_path, compiled(tmp_path, model, {layer: {"weight": WHOLE}}, optimiser=optimiser))[name]
    part = Select(channels=tuple(range(first, end)))
    sliced = learned(tmp_path, compiled(tmp_path, model, {layer: {"weight": part}}, optimiser=optimiser))[name]
    np.testing.assert_array_equal(sliced[:, first:end], full[:, first:end])


def test_most_important_channels_are_chosen(tmp_path: Path) -> None:
    made = compiled(tmp_path, "cnn", {"conv2": {"weight": Select(fraction=0.25)}})
    (param,) = made.program.stored(Role.PARAM)
    weight = initializer("cnn", "conv2_weight")
    importance = np.square(weight).sum(axis=(0, 2, 3))
    best = np.argsort(-importance)[:2]
    assert param.source is not None and param.data is not None
    assert dict(param.source.take)[3] == tuple(int(i) for i in best)
    np.testing.assert_array_equal(param.data, weight.transpose(0, 2, 3, 1)[..., best])


@pytest.mark.parametrize("scheme", ["smallest:25", Scheme({"conv2": {"weight": Select(fraction=0.25, smallest=True)}})])
def test_channels_with_the_smallest_norms_are_chosen(scheme: str | Scheme, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    made = compile_model(tmp_path / "m.onnx", Options(scheme=scheme))
    param = next(v for v in made.program.stored(Role.PARAM) if "conv2" in v.name)
    least = np.argsort(np.square(initializer("cnn", "conv2_weight")).sum(axis=(0, 2, 3)))[:2]
    assert param.source is not None and dict(param.source.take)[3] == tuple(int(i) for i in least)


def test_rate_multiplies_the_step(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(zoo.model("mlp").SerializeToString())
    before = initializer("mlp", "fc2_weight")
    moved = []
    for rate in (1.0, 0.25):
        scheme = Scheme({"fc2": {"weight": WHOLE}}, rates={"fc2": rate})
        options = Options(scheme=scheme, optimiser=Optimiser(0.05, weight_decay=0.1, accumulate=3))
        moved.append(learned(tmp_path, compile_model(tmp_path / "m.onnx", options))["fc2_weight"] - before)
    np.testing.assert_allclose(moved[1], 0.25 * moved[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize(("line", "message"), [
    ('weight = [2, 8]', "The scheme updates input channel 8 of layer 'conv2', which has 8."),
    ('weight = { out = "3:17" }', "The scheme updates output channel 16 of layer 'conv2', which has 16."),
    ("weight = [2, 2]", "updates [2, 2] of its weight; channel 2 is there twice."),
    ("weight = 1.5", "updates 1.5 of its weight; expected a fraction above 0 and not above 1."),
    ("weight = 0", "updates 0 of its weight; expected a fraction above 0 and not above 1."),
    ('weight = "5:2"', "expected `weight = true`, a fraction as 0.25, a range"),
    ("weight = { smallest = 1.5 }", "expected a fraction above 0 and not above 1."),
    ('weight = { smallest = "0:2" }', "expected `weight = true`, a fraction as 0.25, a range"),
    ("bias = 0.5", "The scheme updates a part of 'bias' of layer 'conv2'; only a weight has parts."),
    ("rate = -1", "layer 'conv2' has the rate -1; expected a number: 0, or 1e-06 to 1,000,000."),
])
def test_refused(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    (tmp_path / "s.toml").write_text(f'[layers."conv2"]\n{line}\n')
    with pytest.raises(SchemeError) as caught:
        compile_model(tmp_path / "m.onnx", Options(scheme=str(tmp_path / "s.toml")))
    assert message in str(caught.value)


def test_channels_of_the_input_must_be_neighbours(tmp_path: Path) -> None:
    with pytest.raises(SchemeError, match=r"input channels \[0, 2\] of layer 'fc1' cannot be put side by side: "):
        compiled(tmp_path, "mlp", {"fc1": {"weight": Select(channels=(0, 2))}})


def test_scheme_survives_its_file(tmp_path: Path) -> None:
    from tinytrain.schemes.scheme import load

    scheme = Scheme({
        'a "quoted" \\ name': {"weight": WHOLE, "bias": WHOLE}, "b": {"weight": Select(0.25)}, "c": {"weight": Select(channels=(3, 4, 5))},
        "d": {"weight": Select(channels=(1, 9), side="out")}, "e": {"weight": Select(0.5, side="out")},
    }, rates={"b": 0.5})
    (tmp_path / "s.toml").write_text(scheme.to_toml(), encoding="utf-8")
    assert load(tmp_path / "s.toml") == scheme
