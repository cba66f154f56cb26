# SPDX-License-Identifier: Apache-2.0
"""What a scheme should train and does not: onnx's own evaluator moves each stored tensor of the model that is left out, in float64.

d/dt y(w + t·d) at t = 0 along a random direction d, by central differences. It shares neither importer nor schemes with tinytrain.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.ir.types import Array
from tinytrain.reading import first_line

if TYPE_CHECKING:
    import onnx

STEP = 1e-4
SAMPLES = 3                                               # of which one may leave a ReLU off
ZERO = 1e-8                                               # of the largest output: below it a slope is rounding


@dataclass(frozen=True)
class LeftOut:
    """A stored tensor that is not trained. `why` says on what grounds; where it says nothing, `slope` is how fast the output moves with it,
    None where that could not be computed, for the reason `trouble`.
    """

    name: str
    why: str = ""
    slope: float | None = None
    trouble: str = ""

    @property
    def missed(self) -> bool:
        """Whether it should have been trained."""
        return not self.why and self.slope != 0.0

    @property
    def text(self) -> str:
        if self.why:
            return f"frozen: {self.why}"
        if self.slope is None:
            return f"NOT TRAINED, and nobody knows its gradient ({self.trouble})"
        return f"NOT TRAINED, the output moves with it by {self.slope:.2g}" if self.missed else "not trained, no output depends on it"


def left_out(model: onnx.ModelProto, trained: Collection[str], decided: Mapping[str, str], seed: int) -> list[LeftOut]:
    """All stored float tensors of an fp32 model that are not trained; `decided` gives the grounds of those that have some."""
    from onnx import TensorProto

    names = [t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims != [0] and t.name not in trained]
    found = [LeftOut(name, decided[name]) for name in names if name in decided]
    missing = [name for name in names if name not in decided]
    if not missing:
        return found
    try:
        slopes = _slopes(model, missing, np.random.default_rng(seed))
    except Exception as why:                              # whatever an evaluator without some operator raises
        return found + [LeftOut(name, trouble=first_line(why)) for name in missing]
    return found + [LeftOut(name, slope=slope) for name, slope in slopes.items()]


def _slopes(model: onnx.ModelProto, names: Collection[str], rng: np.random.Generator) -> dict[str, float]:
    from onnx import numpy_helper

    entry = model.graph.input[0]
    shape = [d.dim_value for d in entry.type.tensor_type.shape.dim]
    samples = [rng.normal(size=shape) for _ in range(SAMPLES)]
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    slopes: dict[str, float] = {}
    for name in names:
        way = rng.normal(size=stored[name].shape)
        up, down = (_outputs(model, {name: stored[name] + sign * STEP * way}, entry.name, samples) for sign in (1, -1))
        slope = float(np.abs(up - down).max()) / (2 * STEP)
        slopes[name] = slope if slope > ZERO * max(1.0, float(np.abs(up).max())) else 0.0
    return slopes


def _outputs(model: onnx.ModelProto, moved: Mapping[str, Array], entry: str, samples: list[Array]) -> Array:
    """Of the model in double precision, some of its stored tensors replaced."""
    import onnx
    from onnx import TensorProto, numpy_helper
    from onnx.reference import ReferenceEvaluator

    double = onnx.ModelProto()
    double.CopyFrom(model)
    graph = double.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = moved.get(tensor.name, numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float64), tensor.name))
    for end in (*graph.input, *graph.output):
        end.type.tensor_type.elem_type = TensorProto.DOUBLE
    evaluator: Any = ReferenceEvaluator(double)
    return np.array([evaluator.run(None, {entry: x})[0] for x in samples])
