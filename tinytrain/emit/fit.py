# SPDX-License-Identifier: Apache-2.0
"""Whether a program fits a board, and what kernels ask of the planner: known before any C compiler runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tinytrain.emit.instructions import data_bytes
from tinytrain.emit.select import Kernels
from tinytrain.errors import DoesNotFit, SchemeError
from tinytrain.ir.graph import Node, Program
from tinytrain.ir.types import Role, Value
from tinytrain.ops.four_bits import UnpackFourBits
from tinytrain.planner import Needs, ProgramPlan
from tinytrain.target.board import Board
from tinytrain.target.memory import CODE_PART, constant_memories

_PART = 4                                                 # of the maps of a node: so much scratch is little
LINK_BYTES = 768                                          # at most: what main.c, link and port keep beside a target and an output


def needs_of(kernels: Kernels) -> Callable[[Node], Needs]:
    """What the kernel chosen for a node asks of the planner."""
    @cache
    def needs(node: Node) -> Needs:
        if node.op.view:
            return Needs()
        inputs, outputs = tuple(v.type for v in node.inputs), tuple(v.type for v in node.outputs)
        kernel, spare, alike = kernels.select(node).kernel, list[int](), True
        lead = kernels.select(node, spare=0).kernel.lead(node.op, inputs, outputs)
        most = sum(v.type.nbytes for v in (*node.inputs, *node.outputs) if v.role is Role.TEMP) // _PART
        worth = 0
        while kernel.spare:                               # those that take less, one after another
            spare.append(kernel.scratch_bytes(node.op, inputs, kernels.cores))
            if kernel.pays_without and not set(kernel.pays_without).intersection(kernels.isa) and spare[-1] <= most:
                worth = spare[-1]
            alike = alike and kernel.lead(node.op, inputs, outputs) == lead
            kernel = kernels.select(node, spare=spare[-1] - 1).kernel
        return Needs(kernel.scratch_bytes(node.op, inputs, kernels.cores), lead, tuple(spare), alike, worth)
    return needs


def target_bytes(program: Program) -> int:
    """RAM of a sample's target, which the caller holds; the sample itself has a place in the arena."""
    return max(sum(v.type.nbytes for v in graph.inputs[1:]) for graph in program.entries.values())


def buffer_bytes(program: Program) -> int:
    """RAM that a firmware takes beside arena and stack, at most."""
    return target_bytes(program) + sum(v.type.nbytes for v in program.entries["infer"].outputs) + LINK_BYTES


def constants_elsewhere(program: Program, board: Board) -> dict[Value, str]:
    """Constants and first values that lie in another flash than the code, with its name. Raises DoesNotFit, before any C compiler runs."""
    if board.is_host:
        return {}
    stored = [*program.constants, *program.stored(Role.PARAM)]
    memories = constant_memories(board, [v.type.nbytes for v in stored])
    if memories is None:
        there = ", ".join(f"{m.bytes:,} bytes of {m.name}" for m in board.flashes)
        raise DoesNotFit(
            f"{program.name} has {sum(v.type.nbytes for v in stored):,} bytes of weights, {board.name} has {there} for them and the code.",
            hint="Use a smaller model, or choose a board with more memory (tinytrain boards).",
        )
    return {v: m.name for v, m in zip(stored, memories, strict=True) if m is not board.rom}


@dataclass(frozen=True)
class Room:
    """Bytes that a firmware takes of a board's RAM (arena, buffers, stack) and flash (constants, first values, code), and what is left:
    below 0 what is missing."""

    ram_bytes: int
    ram_left: int
    flash_bytes: int
    flash_left: int

    @property
    def fits(self) -> bool:
        return min(self.ram_left, self.flash_left) >= 0


def room(program: Program, plan: ProgramPlan, board: Board, code_bytes: int) -> Room | None:
    """Whether a program fits, and with how much to spare; `code_bytes` is an estimate. None on the host, which has no bounds."""
    if board.is_host:
        return None
    reserved, data = reserved_bytes(program, board), data_bytes(program)
    assert board.ram is not None and board.rom is not None, board.name
    places = [board.ram.bytes - reserved, *(m.bytes for m in board.rams[1:])]
    kept = board.rom.bytes // CODE_PART if len(board.flashes) > 1 else 0
    flash_left = sum(m.bytes for m in board.flashes) - max(code_bytes, kept) - data
    return Room(plan.arena_bytes + reserved, max(places) - plan.arena_bytes, data + code_bytes, flash_left)


def reserved_bytes(program: Program, board: Board) -> int:
    """RAM that a firmware takes beside its arena: buffers, and the stack of each core."""
    return buffer_bytes(program) + board.stack_bytes


def check_fit(program: Program, plan: ProgramPlan, board: Board) -> None:
    """Raise DoesNotFit, before any C compiler runs, where the arena fits no RAM, or buffers and stack not the first."""
    taken = room(program, plan, board, 0)
    if taken is None or taken.ram_left >= 0:
        return
    buffers, stack = buffer_bytes(program), board.stack_bytes
    name, worst = max(plan.entries.items(), key=lambda item: item[1].arena_bytes)
    node = worst.peak.node
    packed = any(isinstance(one.op, UnpackFourBits) for one in worst.graph.nodes)
    unpacked = "leave weights of four bits unpacked where RAM is short (--optimize speed), " if packed else ""
    largest = ", ".join(f"{v.name} {v.type.nbytes:,}" for v in worst.peak.values[:3])
    raise DoesNotFit(
        f"{program.name} needs {taken.ram_bytes:,} bytes of RAM (arena {plan.arena_bytes:,}, buffers {buffers:,}, stack {stack:,}), "
        f"{board.name} has {', '.join(f'{m.bytes:,} of {m.name}' for m in board.rams)}.",
        f"The peak of {name} is in {node.origin if node else name} ({node.op.name if node else 'graph'}): {largest} bytes"
        f" beside {plan.fixed_bytes:,} bytes of parameters and optimiser state.",
        hint=f"Train less of the model (--scheme last:1), {unpacked}or choose a board with more memory (tinytrain boards).",
    )


def check_budget(program: Program, plan: ProgramPlan, board: Board, budget_bytes: int) -> None:
    """Raise DoesNotFit where a firmware takes more RAM than a person wants to give."""
    taken = plan.arena_bytes + reserved_bytes(program, board)
    if taken > budget_bytes:
        message = f"{program.name} needs {taken:,} bytes of RAM (arena, buffers, stack), the budget is {budget_bytes:,}."
        raise DoesNotFit(message, hint=f"`tinytrain search --sram {budget_bytes}` finds the scheme that is worth most in it.")


def check_kept(program: Program, board: Board) -> None:
    """Raise SchemeError where nothing is learned, DoesNotFit where the pages of the board's store do not hold two records: the new one,
    and the one that counts until it is whole.
    """
    store = board.store
    assert store is not None, board.name
    if "train" not in program.entries:
        message = f"{program.name} trains nothing, so there is nothing for --store to keep."
        raise SchemeError(message, hint="Leave it out, or choose a --loss.")
    kept_bytes = sum(v.type.nbytes for v in program.stored(Role.PARAM, Role.STATE))
    need = store.record_pages(kept_bytes)
    if 2 * need > store.pages:
        raise DoesNotFit(
            f"{program.name} keeps {kept_bytes:,} bytes of weights and optimiser state in two records of {need:,} pages "
            f"of {store.page_bytes:,} bytes; {board.name} has {store.pages} pages for them.",
            hint="Train less of the model (--scheme last:1), give [flash_store] of the board more pages, or leave out --store.",
        )
