# SPDX-License-Identifier: Apache-2.0
"""share_constants: train reads factor, train_1 reads another factor with the same numbers  ->  both read the first

Entry points are built and lowered one by one; what of theirs goes to flash is there once.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Program
from tinytrain.ir.types import Role, Value


def share_constants(program: Program) -> Program:
    """Needs nothing; ensures that all stored tensors have different names, and constants of one name different numbers."""
    names = Builder(program.name)
    shared: dict[object, Value] = {}
    instead: dict[Value, Value] = {}
    for v in program.stored(Role.PARAM, Role.STATE, Role.CONST):
        assert v.data is not None, f"{v!r} is stored but has no data"
        same = (v.name, v.type, v.data.tobytes()) if v.role is Role.CONST else v
        if same not in shared:
            name = names.unique(v.name)
            shared[same] = v if name == v.name else dataclasses.replace(v, name=name)
        if shared[same] is not v:
            instead[v] = shared[same]
    return program.map(lambda graph: graph.substitute(instead)) if instead else program
