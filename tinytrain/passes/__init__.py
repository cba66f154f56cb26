# SPDX-License-Identifier: Apache-2.0
"""One pass a file, in one visible order. A pass takes a graph and returns another, or the same object when nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tinytrain.ir.graph import Graph
from tinytrain.ir.verify import verify
from tinytrain.passes.absorb_transposes import absorb_transposes
from tinytrain.passes.check_numbers import check_numbers
from tinytrain.passes.drop_dead import drop_dead, drop_dead_nodes
from tinytrain.passes.fold_pads import fold_pads
from tinytrain.passes.fuse_epilogues import fuse_epilogues
from tinytrain.passes.pack_masks import pack_masks
from tinytrain.passes.read_pieces import read_pieces
from tinytrain.passes.save_slices import save_slices
from tinytrain.passes.scale_gradients import scale_gradients
from tinytrain.passes.sink_views import sink_views

Pass = Callable[[Graph], Graph]

# on the forward graph, before parameters get their place in memory
FORWARD: tuple[Pass, ...] = (absorb_transposes, fold_pads, drop_dead_nodes)

# on each entry point of the program; between the two a program is lowered to integers, if it shall be
GRADIENTS: tuple[Pass, ...] = (drop_dead, scale_gradients, check_numbers)
KERNELS: tuple[Pass, ...] = (drop_dead, save_slices, pack_masks, sink_views, read_pieces, fuse_epilogues)
DEFAULT: tuple[Pass, ...] = (*GRADIENTS, *KERNELS)


def run(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """Apply passes in order; the graph is verified after each that changed it."""
    for step in passes:
        before = graph
        graph = step(graph)
        if graph is not before:
            verify(graph, after=(step.func if isinstance(step, partial) else step).__name__)
    return graph
