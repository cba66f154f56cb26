# SPDX-License-Identifier: Apache-2.0
"""LRN as it is defined, and the gradient of what it is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import f32, infer, load, model_of
from frontend_models import node as n

from tinytrain.errors import ModelError
from tinytrain.gradient.objective import with_loss
from tinytrain.ops.loss_mean import Mse
from tinytrain.verify.checks import check_graph


@pytest.mark.parametrize(("size", "shape"), [(3, (1, 5, 4, 3)), (4, (1, 7, 2, 2)), (1, (1, 2, 3, 3)), (9, (1, 3, 2, 5))])
def test_lrn(size: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    """As it is defined: onnxruntime takes odd sizes only, and onnx's evaluator leaves channels out where the size is above their number."""
    nodes = [n("Conv", "x w", "c"), n("LRN", "c", size=size, alpha=0.5, beta=0.6, bias=1.5)]
    _, imported = load(tmp_path, model_of(nodes, {"w": f32(shape[1], shape[1], 1, 1)}, shape))
    assert set(imported.params) == {"w"}, "no weight of its window is trained"
    sample = f32(*shape)
    c = np.einsum("kc,nchw->nkhw", imported.params["w"].data.reshape(shape[1], -1), sample).astype(np.float64)
    near = [np.square(c[:, max(0, k - (size - 1) // 2) : k + size // 2 + 1]).sum(axis=1) for k in range(shape[1])]
    np.testing.assert_allclose(infer(imported, sample), c / (1.5 + 0.5 / size * np.stack(near, 1)) ** 0.6, 1e-4, 1e-5)
    graph, _, loss = with_loss(imported.graph, Mse())
    x, target = (np.random.default_rng(0).normal(size=v.shape) for v in graph.inputs)
    errors = check_graph(graph, loss, list(imported.params.values()), [x, target])
    assert max(error.relative for error in errors) < 1e-6


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"l \(LRN\) in .*: its size is 0, expected 1 or more"):
        load(tmp_path, model_of([n("LRN", name="l", size=0)], {}, (1, 2, 3, 3)))
