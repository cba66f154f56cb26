# SPDX-License-Identifier: Apache-2.0
"""What a file stores once for several readers, and is trained as several tensors all the same; all of it is said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.frontend.literals import FLOAT

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

UNFOLDED = ("DequantizeLinear", "QuantizeLinear", "Dropout")
PARTING = ("Gather", "Slice", "Split")                    # a part is a tensor of its own
# operands that are learned and begin as one number over and over: biases, scales, slopes
ARITHMETIC = ("Add", "Sub", "Mul")                        # where a single number is one of the architecture
BEGIN_EVEN = {
    "Gemm": (2,), "Conv": (2,), "ConvTranspose": (2,), "PRelu": (1,), "RMSNormalization": (1,), **dict.fromkeys(ARITHMETIC, (0, 1)),
    **dict.fromkeys(("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"), (1, 2)),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), (3,)),
}


def read_apart(graph: onnx.GraphProto, literals: Collection[str]) -> list[str]:
    """What to say of stored tensors that are read as they are and also moved (a tied Transpose), or as what is computed from them (the
    product with a state of zeros): folding makes two weights of one.
    """
    root = {tensor.name: {tensor.name} for tensor in graph.initializer if tensor.data_type == FLOAT}
    constant = {tensor.name for tensor in graph.initializer}.union(literals)
    views: dict[str, dict[str, None]] = {}
    for node in graph.node:
        roots = set[str]().union(*(root.get(name, ()) for name in node.input))
        if roots and node.op_type not in UNFOLDED and constant.issuperset(name for name in node.input if name):
            constant.update(node.output)
            parted = node.op_type in PARTING and roots == {node.input[0]}
            root |= {name: {name} if parted else roots for name in node.output}
            continue
        for name in node.input:
            for stored in root.get(name, ()):
                views.setdefault(stored, {})[name] = None
    apart = {name: list(found) for name, found in views.items() if len(found) > 1}
    return [f"{name} is read as {' and as '.join(found)}: they are trained apart" for name, found in apart.items()]


def store_apart(graph: onnx.GraphProto) -> list[str]:
    """Exporters store equal tensors once: what is one number over and over becomes a tensor of each reader that learns it. In place; and
    what to say of it.
    """
    from onnx import numpy_helper

    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, index))
    taken = set(readers) | {t.name for t in graph.initializer}
    notes = []
    for tensor in list(graph.initializer):
        places, single = readers.get(tensor.name, []), math.prod(tensor.dims) == 1
        learning = [(n, i) for n, i in places if i in BEGIN_EVEN.get(n.op_type, ()) and not (single and n.op_type in ARITHMETIC)]
        if len(places) < 2 or not learning or tensor.data_type != FLOAT or np.ptp(numpy_helper.to_array(tensor)):
            continue
        own = learning[1:] if len(learning) == len(places) else learning
        for node, index in own:
            copy = graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = node.input[index] = _fresh(f"{tensor.name}_{node.name}", taken)
        notes.append(f"{tensor.name} is stored once for {', '.join(n.name for n, _ in places)}: they start alike, and are trained apart")
    return notes


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
