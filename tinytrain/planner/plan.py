# SPDX-License-Identifier: Apache-2.0
"""What the planner hands out: an order of the nodes and a byte offset in the arena for everything that lives in RAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Value


@dataclass(frozen=True)
class Needs:
    """What the kernel of a node asks for: bytes of `scratch` while it runs, and where output 0 may lie over input 0.

    `lead` 0: it may begin where input 0 begins; n > 0: it must begin at least n bytes before, for it is written faster than input 0 is
    read; None: they are apart. Input 0 is lost either way. The first of `spare` bytes that there is room for would make it quicker, where
    they cost nothing; `either`: output 0 may then lie over input 0 as it does otherwise. Where none of them has room, `worth` bytes of them
    are worth RAM.
    """

    scratch: int = 0
    lead: int | None = None
    spare: tuple[int, ...] = ()
    either: bool = False
    worth: int = 0


@dataclass(frozen=True)
class Buffer:
    """A piece of arena in use at node positions start..end-1; `size` in bytes; `fixed` is its offset where that is given.

    `over` (id, lead): it may lie over that other one, whose last position is the first of this one, if it begins exactly
    `lead` bytes before it.
    """

    id: int
    start: int
    end: int
    size: int
    align: int
    fixed: int | None = None
    over: tuple[int, int] | None = None

    @property
    def padded(self) -> int:
        """Bytes up to the next aligned offset: what the buffer takes from its neighbours."""
        return -(-self.size // self.align) * self.align

    def lies_over(self, at: int, other: Buffer, other_at: int) -> bool:
        """Whether this one may overlap another one, each where it stands."""
        return self.over == (other.id, other_at - at)

    def shared(self, buffers: Sequence[Buffer]) -> int:
        """Bytes that it has in common with the one of these that it lies over, if it does."""
        if self.over is None:
            return 0
        other, lead = buffers[self.over[0]], self.over[1]
        return other.padded + self.padded - max(lead + other.padded, self.padded)


def in_use(buffers: Sequence[Buffer]) -> list[int]:
    """Padded bytes that any placement needs at each position: buffers that may share bytes there do."""
    change = [0] * (max((b.end for b in buffers), default=0) + 2)
    for b in buffers:
        change[b.start] += b.padded
        change[b.end] -= b.padded
        change[b.start] -= b.shared(buffers)
        change[b.start + 1] += b.shared(buffers)
    return list(accumulate(change))


@dataclass(frozen=True)
class Peak:
    """The first position where most bytes are in use; `width` positions have as many; `values` are TEMP roots, largest first.

    `shared_bytes` of them belong to two values at once.
    """

    position: int
    width: int
    bytes: int
    node: Node | None
    values: tuple[Value, ...]
    shared_bytes: int


@dataclass(frozen=True, eq=False)
class Plan:
    """One entry point: `graph` in execution order, and where its values live.

    `offsets` (bytes from the arena's start) has every TEMP in the arena, every PARAM and STATE of the program, and the sample: the
    first input, which is there when the entry is called and may be overwritten after its last reader. A TEMP that is a view of
    another INPUT or of a CONST has none. `aliases` maps a value that owns no storage to the value that does, see `root`.
    `copies` are (old, new) updates that could not be written in place: copy new over old, in this order, when the graph
    has run. `leads` says which nodes may write output 0 over input 0 as they read it: where it begins exactly that many bytes
    before it. `spare` has (offset, bytes) in the program's arena that nobody else uses while a node runs, for nodes that asked.
    `lower_bound_bytes` holds for this order of nodes and these in-place choices: the most bytes in use at once.
    """

    graph: Graph
    offsets: dict[Value, int]
    aliases: dict[Value, Value]
    scratch_offsets: dict[Node, int]
    scratch_sizes: dict[Node, int]
    leads: dict[Node, int]
    spare: dict[Node, tuple[int, int]]
    copies: tuple[tuple[Value, Value], ...]
    arena_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
    peak: Peak
    order: str

    def room(self, node: Node) -> int:
        """Bytes that a node was given of what is to spare."""
        return self.spare[node][1] if node in self.spare else 0

    def root(self, value: Value) -> Value:
        """The value whose storage this one uses."""
        return self.aliases.get(value, value)

    def spans(self) -> dict[Value, tuple[int, int]]:
        """Of what owns storage: the nodes at positions start..end-1 need its bytes. A sample is there from the start, and what the graph
        gives stays to the end.
        """
        found = {v: (0, 1) for v in self.graph.inputs[:1]}
        for position, node in enumerate(self.graph.nodes):
            for root in map(self.root, (*node.outputs, *node.inputs)):
                start, _ = found.get(root, (position, position))
                found[root] = start, position + 1
        for root in map(self.root, self.graph.kept()):
            if root in found:
                found[root] = found[root][0], len(self.graph.nodes)
        return found


@dataclass(frozen=True, eq=False)
class ProgramPlan:
    """All entry points share one arena: `fixed` (PARAM and STATE) at its start, then temporaries of whichever entry runs.

    `input_offset` is where a sample stands in all entries that have one. `replays` samples of a memory follow each new one.
    """

    entries: dict[str, Plan]
    fixed: dict[Value, int]
    fixed_bytes: int
    input_offset: int
    arena_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
    replays: int = 0
