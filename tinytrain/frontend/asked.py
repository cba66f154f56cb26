# SPDX-License-Identifier: Apache-2.0
"""Options that a person gave on purpose, and what a model must have for them to change anything."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.frontend.trainable import QUANTISING

if TYPE_CHECKING:
    import onnx

_BATCH_NORMS = (
    {"BatchNormalization"}, "batch norm, which exporters fold into the weights before it",
    "Leave it out, or export by tinytrain.from_torch(module, example, 'model.onnx'), which keeps batch norms whole.",
)
_INT8 = (QUANTISING, "int8 number: it is float32", "Leave it out, or quantise the model first: `tinytrain quantize`.")
# Option → the ONNX ops that it is about, what the model lacks without any, and what to try.
ACTS_ON: dict[str, tuple[set[str], str, str]] = {
    "--keep-batchnorm": _BATCH_NORMS,
    "--running-statistics": _BATCH_NORMS,
    "--dropout": ({"Dropout"}, "Dropout, which exporters leave out of a module that is not in training mode", "Leave it out."),
    "--bptt": ({"LSTM", "GRU", "RNN"}, "recurrent layer (LSTM, GRU or RNN)", "Leave it out."),
    "--rounding": _INT8,
    "--master": _INT8,
    "--no-qas": _INT8,
}


def check_asked(asked: Collection[str], model: onnx.ModelProto, path: Path) -> None:
    """Raise ModelError for an option that changes nothing, because the model has none of what it is about."""
    present = {node.op_type for node in model.graph.node}
    for option in asked:
        ops, lacks, hint = ACTS_ON[option]
        if not present & ops:
            raise ModelError(f"{option} has no effect: {path} has no {lacks}.", hint=hint)
