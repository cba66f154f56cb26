# SPDX-License-Identifier: Apache-2.0
"""Where the memory of a compiled model goes, as the planner laid it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinytrain.api import html


@dataclass(frozen=True)
class Entry:
    """Of one call, as infer or train: bytes with what is kept between calls, the least that its order of nodes can do with, that order."""

    arena_bytes: int
    lower_bound_bytes: int
    order: str


@dataclass(frozen=True)
class Plan:
    """Bytes of RAM: the arena with all in it, `fixed_bytes` of that parameters and state of the optimiser; no plan of this order of nodes
    takes less than `lower_bound_bytes`.
    """

    arena_bytes: int
    fixed_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, memory: Mapping[str, Any]) -> Plan:
        """From the `memory` of a manifest. Raises whatever another thing leads to."""
        return cls(
            int(memory["arena_bytes"]), int(memory["fixed_bytes"]), int(memory["lower_bound_bytes"]), bool(memory["proven_optimal"]),
            {str(name): Entry(int(entry["arena_bytes"]), int(entry["lower_bound_bytes"]), str(entry["order"]))
             for name, entry in memory["entries"].items()},
        )

    def _repr_html_(self) -> str:
        rows: list[list[object]] = [["", "arena B", "lower bound B", "order of nodes"]]
        rows += [[name, entry.arena_bytes, entry.lower_bound_bytes, entry.order] for name, entry in self.entries.items()]
        rows += [["all", self.arena_bytes, self.lower_bound_bytes, "proven optimal" if self.proven_optimal else ""],
                 ["parameters and state", self.fixed_bytes, "", ""]]
        return html.table(rows, heading=True)
