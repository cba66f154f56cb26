# SPDX-License-Identifier: Apache-2.0
"""What a scheme costs, as text for people."""

from __future__ import annotations

from tinytrain.report.text import estimate_text, table
from tinytrain.search.cost import LayerCost, SchemeCost
from tinytrain.target.board import Board


def cost_text(name: str, board: Board, cost: SchemeCost) -> str:
    """A line for each layer, then totals. A layer's share includes what stands between it and the next one."""
    rows = [["layer", "weights", "biases", "updated B", "saved B", "backward MACs", "instructions"]]
    rows += [_row(layer) for layer in cost.layers]
    lines = [
        table(rows), "",
        f"scheme     of {name} for {board.title}",
        f"updated    {cost.weights:,} weights and {cost.biases:,} biases, {cost.updated_bytes:,} B",
        f"saved      {cost.saved_bytes:,} B of activations from the forward into the backward pass",
        f"MACs       {cost.forward_macs:,} forward, {cost.backward_macs:,} backward",
        f"RAM        {cost.ram_bytes:,} B planned: arena {cost.arena_bytes:,} with parameters, then buffers and the reserved stack",
        f"flash      {cost.flash_bytes:,} B: {cost.data_bytes:,} of constants and initial values, code {_code(cost)}",
        f"step       {estimate_text(cost.estimate, board) if cost.estimate else 'not counted on this board'}",
    ]
    if cost.estimate and cost.estimate.uncounted:
        lines.append(f"uncounted  {', '.join(cost.estimate.uncounted)}: taken for others of their kind")
    return "\n".join(lines)


def _row(layer: LayerCost) -> list[str]:
    amounts = (layer.weights, layer.biases, layer.updated_bytes, layer.saved_bytes, layer.backward_macs, layer.instructions)
    return [layer.layer, *("-" if not amount else f"{amount:,}" for amount in amounts)]


def _code(cost: SchemeCost) -> str:
    code = cost.flash_bytes - cost.data_bytes
    return f"{code:,} (estimate)" if code else "not counted on this board"
