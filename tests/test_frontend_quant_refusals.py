# SPDX-License-Identifier: Apache-2.0
"""Quantised models that are refused, each in a sentence that says where, what and what was expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import load, model_of, node
from onnx import helper
from quant_models import Qdq, one_conv

from tinytrain.errors import ModelError

REFUSALS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "zero": ({"w_s": np.array([1, 0, 1, 1], np.float32)}, "scale w_s holds 0, expected positive finite numbers"),
    "negative": ({"x_s": np.array(-0.5, np.float32)}, "scale x_s holds -0.5, expected positive finite numbers"),
    "infinite": ({"x_s": np.array(np.inf, np.float32)}, "scale x_s holds inf, expected positive finite numbers"),
    "NaN": ({"w_s": np.full(4, np.nan, np.float32)}, "initializer w_s holds 4 of 4 values that are NaN or infinite"),
    "bias": ({"b_z": np.full(4, 3, np.int32)}, "zero point b_z is 3, expected 0 for int32"),
    "type": ({"w_z": np.zeros(4, np.uint8)}, "do not fit each other"),
    "channels": ({"x_s": np.ones(3, np.float32), "x_z": np.zeros(3, np.int8)}, "has 3 scales for a computed tensor, expected one"),
    "count": ({"w_s": np.ones(3, np.float32)}, "has 3 scales and 4 zero points for 4 channels on axis 0"),
    "overflow": ({"b_q": np.full(4, 2**31 - 1, np.int32)}, "its sums can reach 2,1"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str, tmp_path: Path) -> None:
    changes, text = REFUSALS[case]
    net = one_conv(**changes)
    if case == "bias":
        net.nodes[3].input.append("b_z")
    with pytest.raises(ModelError) as error:
        net.load(tmp_path, (1, 3, 6, 5))
    assert text in str(error.value)


def test_an_integer_input_must_say_what_it_stands_for(tmp_path: Path) -> None:
    model = model_of([node("Relu", "x", "y")], {}, (1, 3))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(np.int8))
    with pytest.raises(ModelError, match="no DequantizeLinear reads the integers x, the input"):
        load(tmp_path, model)


def test_scales_of_a_weight_must_be_those_of_its_outputs(tmp_path: Path) -> None:
    net = Qdq()
    net.quantised(net.add("Conv", f"{net.quantised('x')} {net.weight('w', 4, 3, 3, 3, axis=1)}", "c"), name="y")
    with pytest.raises(ModelError, match="are those of axis 1, expected axis 0, the output channels"):
        net.load(tmp_path, (1, 3, 6, 5))


def test_a_tensor_has_one_scale_on_its_way(tmp_path: Path) -> None:
    net = one_conv()
    net.arrays["other"] = np.array(0.5, np.float32)
    net.nodes[1].input[1] = "other"
    with pytest.raises(ModelError, match=r"takes its integers at scale 0\.5 and zero point 0, they were quantised at scale"):
        net.load(tmp_path, (1, 3, 6, 5))
