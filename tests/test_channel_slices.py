# SPDX-License-Identifier: Apache-2.0
"""Updating some input channels of a weight: the same bits as in a full update there, the same weights as before elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinytrain import zoo
from tinytrain.compiler import Options, compile_model, write
from tinytrain.errors import SchemeError
from tinytrain.golden import golden_vectors
from tinytrain.ir.types import Array
from tinytrain.project import Project
from tinytrain.update import Optimiser


def learned(folder: Path, model: str, scheme: str, optimiser: Optimiser) -> dict[str, Array]:
    """Parameters of the host twin after three steps, flat, by name."""
    (folder / "m.onnx").write_bytes(zoo.model(model).SerializeToString())
    compiled = compile_model(folder / "m.onnx", Options(scheme=scheme, optimiser=optimiser))
    golden = golden_vectors(compiled.program, 3)
    write(compiled, folder / "project", force=True)
    with Project.open(folder / "project").session() as session:
        for x, target in zip(golden.x, golden.target, strict=True):
            session.train_step(x, target)
        return session.get_params()


@pytest.mark.parametrize(("model", "layer", "channels", "shape"), [
    ("cnn", "conv2", (2, 5), (16, 3, 3, 8)), ("cnn", "conv2", (0, 3), (16, 3, 3, 8)), ("mlp", "fc2", (25, 32), (16, 32)),
])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_slice_is_that_of_a_full_update(
    model: str, layer: str, channels: tuple[int, int], shape: tuple[int, ...], accumulate: int, tmp_path: Path
) -> None:
    # the last update of an accumulated step sees the same weights in both schemes, so its gradients are the same
    optimiser = Optimiser(0.05, momentum=0.9, accumulate=accumulate)
    whole, part = tmp_path / "whole.toml", tmp_path / "part.toml"
    whole.write_text(f'[layers."{layer}"]\nweight = true\n')
    part.write_text(f'[layers."{layer}"]\nweight = {list(channels)}\n')
    name = f"{layer}_weight"
    start, stop = channels
    before = next(t for t in zoo.model(model).graph.initializer if t.name == name)
    original = np.frombuffer(before.raw_data, np.float32).reshape(shape[0], shape[-1], *shape[1:-1])
    original = np.moveaxis(original, 1, -1)
    sliced = learned(tmp_path, model, str(part), optimiser)[name].reshape(shape)
    full = learned(tmp_path, model, str(whole), optimiser)[name].reshape(shape)
    assert not np.array_equal(sliced[..., start:stop], original[..., start:stop])
    outside = [i for i in range(shape[-1]) if not start <= i < stop]
    np.testing.assert_array_equal(sliced[..., outside], original[..., outside])
    if accumulate == 3:
        np.testing.assert_array_equal(sliced[..., start:stop], full[..., start:stop])


def test_slice_outside_the_weight_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(zoo.model("cnn").SerializeToString())
    (tmp_path / "s.toml").write_text('[layers."conv2"]\nweight = [2, 9]\n')
    with pytest.raises(SchemeError, match=r"channels \[2, 9\] of 'weight' of layer 'conv2', which has 8\."):
        compile_model(tmp_path / "m.onnx", Options(scheme=str(tmp_path / "s.toml")))
