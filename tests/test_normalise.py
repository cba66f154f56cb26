# SPDX-License-Identifier: Apache-2.0
"""Normalisation behind layers whose maps have their channels last, with a scale and an offset that are trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from frontend_models import Arrays, check, f32, node, op_names

CONV = node("Conv", "x w", "c")
CASES: dict[str, tuple[str, dict[str, object], Arrays]] = {
    "instance": ("InstanceNormalization", {}, {"g": f32(4), "b": f32(4)}),
    "group": ("GroupNormalization", {"num_groups": 2}, {"g": f32(4), "b": f32(4)}),
    "layer, all": ("LayerNormalization", {"axis": 1}, {"g": f32(4, 4, 3), "b": f32(4, 4, 3)}),
    "layer, last": ("LayerNormalization", {}, {"g": f32(3), "b": f32(3)}),
    "layer, broadcast": ("LayerNormalization", {"axis": 1}, {"g": f32(4, 1, 1), "b": f32(3)}),
    "layer, no offset": ("LayerNormalization", {"axis": -2}, {"g": f32(4, 3)}),
    "mean and variance": ("MeanVarianceNormalization", {"axes": [1, 3]}, {}),
    "root of squares": ("LpNormalization", {"axis": 2}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_of_a_feature_map(case: str, tmp_path: Path) -> None:
    op, attributes, arrays = CASES[case]
    imported = check(tmp_path, [CONV, node(op, " ".join(["c", *arrays]), **attributes)], {"w": f32(4, 3, 3, 3), **arrays}, (1, 3, 6, 5), 21)
    assert set(imported.params) == {"w", *arrays}
    assert "transpose" not in op_names(imported)
    for name, array in arrays.items():
        value = imported.params[name]
        assert value.source is not None
        assert value.data is not None
        assert (value.source.to_onnx(value.data) == array).all()
