# SPDX-License-Identifier: Apache-2.0
"""The manifest of a compiled model: what hosts and people know of a folder without reading its C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tinytrain import __version__
from tinytrain.emit.project import link_keys
from tinytrain.frontend.ports import described
from tinytrain.gradient.objective import aimed
from tinytrain.ir.types import Role, Source, Value
from tinytrain.passes.lower_fp16 import never_halved
from tinytrain.schemes.precision import kept

if TYPE_CHECKING:
    from tinytrain.compiler import Compiled


def describe(compiled: Compiled) -> dict[str, Any]:
    """The manifest: what was compiled from what, for which board, with which sizes and layouts."""
    program, plan, imported = compiled.program, compiled.plan, compiled.imported
    infer = program.entries["infer"]
    train = program.entries.get("train")
    keys = link_keys(program)
    return {
        "tinytrain": __version__,
        "name": program.name,
        "model": compiled.prepared.path.name,
        "model_sha256": compiled.prepared.hash.hex(),
        "board": compiled.board.name,
        "isa": list(compiled.board.isa),
        "loss": compiled.options.loss,
        "loss_options": compiled.options.loss_options,
        "schemes": [scheme.plain() for scheme in compiled.schemes],
        "optimiser": asdict(compiled.options.rule),
        "gradients": compiled.options.grad,
        "dtype": compiled.options.dtype,
        "fp32": stays_fp32(compiled),
        "input": described([infer.inputs[0]], imported.inputs),
        "output": described(infer.outputs, imported.outputs),
        "target": _target(train.inputs[1], aimed(compiled.options.objective, infer)) if train else None,
        "parameters": [
            {"name": source.initializer, "key": keys[v], "shape": list(v.shape), "source": asdict(source)}
            for v, source in ((v, _source_of(v)) for v in program.stored(Role.PARAM))
        ],
        "memory": {
            "arena_bytes": plan.arena_bytes, "fixed_bytes": plan.fixed_bytes, "lower_bound_bytes": plan.lower_bound_bytes,
            "proven_optimal": plan.proven_optimal,
            "entries": {
                key: {"arena_bytes": p.arena_bytes, "lower_bound_bytes": p.lower_bound_bytes, "order": p.order}
                for key, p in plan.entries.items()
            },
        },
        "constants_bytes": sum(v.type.nbytes for v in program.stored(Role.CONST)),
        "macs": {key: sum(n.op.cost(*n.kinds).macs for n in graph.nodes) for key, graph in program.entries.items()},
    }


def stays_fp32(compiled: Compiled) -> dict[str, str]:
    """Layer → why it is not stored as fp16, where the model is: what was asked for first."""
    options, model = compiled.options, compiled.imported.graph
    if options.dtype != "fp16":
        return {}
    asked = kept(options.precision, model)
    return {**asked, **{name: why for name, why in never_halved(compiled.program).items() if name not in asked}}


def _source_of(param: Value) -> Source:
    """Where what is learned goes back to."""
    assert param.source is not None, f"{param!r} is trained, but nobody knows what it is in the ONNX model"
    return param.source


def _target(value: Value, names: Sequence[str]) -> dict[str, Any]:
    """Type of a target; where the model has several outputs, those of the parts too, by the names of the outputs that they are for."""
    kinds = [kind for _, kind in value.parts] or [value.type]
    parts = [{"name": name, "shape": list(kind.shape), "dtype": kind.dtype.tag} for name, kind in zip(names, kinds, strict=bool(names))]
    return {"shape": list(value.shape), "dtype": value.type.dtype.tag, **({"parts": parts} if parts else {})}
