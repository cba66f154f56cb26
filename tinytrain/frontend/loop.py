# SPDX-License-Identifier: Apache-2.0
"""How often a Loop runs, where that depends on constants alone, as in the recurrent layers that TensorFlow writes as loops.

Whether there is a further step may be computed from counters that the steps carry. What that needs of the body is run by onnx.reference,
step by step; all else is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinytrain.ir.types import Array

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx


def steps_of(
    loop: onnx.NodeProto, body: onnx.GraphProto, stored: Mapping[str, onnx.TensorProto], opsets: Iterable[onnx.OperatorSetIdProto],
    most: int,
) -> int:
    """The number of steps; 0 where it is not known, or more than `most`."""
    from onnx import numpy_helper

    nodes, read = _counting(body)
    states = {value.name: name for value, name in zip(body.input[2:], loop.input[2:], strict=True)}
    inner = {name for node in body.node for name in node.output} | {t.name for t in body.initializer} | {v.name for v in body.input}
    outside = {name: name for name in read if name and name not in inner}
    begin = {name: outer for name, outer in states.items() if name in read}
    needed = [name for name in (*loop.input[:2], *begin.values(), *outside) if name]
    if not all(name in stored for name in needed) or any(a.HasField("g") for node in nodes for a in node.attribute):
        return 0
    arrays = {name: numpy_helper.to_array(stored[name]) for name in needed}
    limit = int(arrays[loop.input[0]].reshape(())) if loop.input[0] else most + 1
    going = bool(arrays[loop.input[1]].reshape(())) if loop.input[1] else True
    held = {name: arrays[outer] for name, outer in (begin | outside).items()}
    after = {name: body.output[1 + i].name for i, name in enumerate(states) if name in begin}
    return _counted(body, nodes, held, after, going, limit, opsets, most)


def _counting(body: onnx.GraphProto) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that the condition of a further step depends on, from step to step; and all names that they read."""
    makers = {name: node for node in body.node for name in node.output if name}
    after = {value.name: out.name for value, out in zip(body.input[2:], body.output[1:], strict=False)}
    seen: set[str] = set()
    waiting = [body.output[0].name]
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            waiting += makers[name].input if name in makers else [after[name]] if name in after else []
    return [node for node in body.node if seen.intersection(node.output)], seen


def _counted(
    body: onnx.GraphProto, nodes: list[onnx.NodeProto], held: dict[str, Array], after: Mapping[str, str], going: bool, limit: int,
    opsets: Iterable[onnx.OperatorSetIdProto], most: int,
) -> int:
    """The steps, one by one: `held` are what the nodes read, and `after` says which of it is what from one step to the next."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    number, cond = (value.name for value in body.input[:2])
    given = held | {number: np.array(0, np.int64), cond: np.array(going)}
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()]
    results = [body.output[0].name, *after.values()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(results)]
    graph = helper.make_graph(nodes, "steps", inputs, outputs, body.initializer)
    step = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(opsets)))
    for count in range(most + 1):
        if not going or count >= limit:
            return count
        given |= {number: np.array(count, np.int64), cond: np.array(going)}
        made = dict(zip(dict.fromkeys(results), step.run(None, given), strict=True))
        going = bool(np.asarray(made[results[0]]).reshape(()))
        given |= {name: np.asarray(made[out]) for name, out in after.items()}
    return 0
