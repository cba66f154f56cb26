# SPDX-License-Identifier: Apache-2.0
"""Which ONNX ops there are handlers for: the one list that refusals and `tinytrain ops` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.frontend.call import handlers, integer_handlers
from tinytrain.frontend.pairs import PAIRED
from tinytrain.frontend.qoperator import QDQ, rewritten
from tinytrain.frontend.tabulate import TABULATED

if TYPE_CHECKING:
    import onnx

SHOWN_OPS, SHOWN_NODES = 12, 4                            # in a message


def supported() -> dict[str, tuple[bool, bool]]:
    """ONNX name -> whether it is computed in fp32, and in int8. Other domains are part of the name."""
    own = {name: (name in handlers(), name in integer_handlers() or name in TABULATED) for name in {*handlers(), *integer_handlers()}}
    pairs = {name: (True, False) for name in PAIRED if name not in own}
    return dict(sorted((own | pairs | dict.fromkeys(rewritten(), (False, True))).items()))


def known_ops(graph: onnx.GraphProto) -> set[str]:
    """The full names of ops that have a handler in such a model."""
    quantised = any(node.op_type in QDQ for node in graph.node)
    return {name for name, (plain, integer) in supported().items() if plain or (integer and quantised)}


def strange_ops(graph: onnx.GraphProto, file: str) -> tuple[ModelError, ...]:
    """What to say of ops that have no handler: of all at once."""
    known = known_ops(graph)
    strange: dict[str, list[str]] = {}
    for node in graph.node:
        if (name := full_name(node)) not in known:
            strange.setdefault(name, []).append(node.name)
    return (_unsupported(strange, file),) if strange else ()


def full_name(node: onnx.NodeProto) -> str:
    """With the domain, where it is not ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _unsupported(strange: dict[str, list[str]], file: str) -> ModelError:
    advice = "Replace the layer by supported ones before exporting, or add a handler (docs/adding-an-op.md)."
    (op, nodes), *more = strange.items()
    if not more and len(nodes) == 1:
        return ModelError(f"{nodes[0]} ({op}) in {file}: this op is not supported; expected one that `tinytrain ops` lists.", hint=advice)
    lines = [f"  {op}: {_some(nodes, SHOWN_NODES)}" for op, nodes in list(strange.items())[:SHOWN_OPS]]
    if len(strange) > SHOWN_OPS:
        lines.append(f"  {_some(list(strange)[SHOWN_OPS:], SHOWN_OPS)}")
    count = f"{sum(map(len, strange.values()))} nodes are of {len(strange)} ops"
    message = f"{file}: {count} that are not supported; expected such as `tinytrain ops` lists."
    return ModelError(message, hint="\n".join([*lines, advice]))


def _some(names: list[str], most: int) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
