# SPDX-License-Identifier: Apache-2.0
"""What the planner hands out: an order of the nodes and a byte offset in the arena for everything that lives in RAM."""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Value


@dataclass(frozen=True)
class Buffer:
    """A piece of arena in use at node positions start..end-1; `size` in bytes; `fixed` is its offset where that is given."""

    id: int
    start: int
    end: int
    size: int
    align: int
    fixed: int | None = None

    @property
    def padded(self) -> int:
        """Bytes up to the next aligned offset: what the buffer takes from its neighbours."""
        return -(-self.size // self.align) * self.align


@dataclass(frozen=True)
class Peak:
    """The first position where most bytes are in use; `width` positions have as many; `values` are TEMP roots, largest first."""

    position: int
    width: int
    bytes: int
    node: Node | None
    values: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """One entry point: `graph` in execution order, and where its values live.

    `offsets` (bytes from the arena's start) has every TEMP in the arena, every PARAM and STATE of the program, and the sample: the
    first input, which is there when the entry is called and may be overwritten after its last reader. A TEMP that is a view of
    another INPUT or of a CONST has none. `aliases` maps a value that owns no storage to the value that does, see `root`.
    `copies` are (old, new) updates that could not be written in place: copy new over old, in this order, when the graph
    has run. `lower_bound_bytes` holds for this order of nodes and these in-place choices: the most bytes in use at once.
    """

    graph: Graph
    offsets: dict[Value, int]
    aliases: dict[Value, Value]
    scratch_offsets: dict[Node, int]
    scratch_sizes: dict[Node, int]
    copies: tuple[tuple[Value, Value], ...]
    arena_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
    peak: Peak
    order: str

    def root(self, value: Value) -> Value:
        """The value whose storage this one uses."""
        return self.aliases.get(value, value)


@dataclass(frozen=True, eq=False)
class ProgramPlan:
    """All entry points share one arena: `fixed` (PARAM and STATE) at its start, then temporaries of whichever entry runs.

    `input_offset` is where a sample stands in all entries that have one.
    """

    entries: dict[str, Plan]
    fixed: dict[Value, int]
    fixed_bytes: int
    input_offset: int
    arena_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
