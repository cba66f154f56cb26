# SPDX-License-Identifier: Apache-2.0
"""Plain-text views: the user's names, numbers with units, the bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinytrain.emit.tuned import summed
from tinytrain.errors import printable
from tinytrain.gradient.replay import held, held_bytes
from tinytrain.ir.types import Role
from tinytrain.passes.pack_four_bits import a_byte_each
from tinytrain.passes.scale_gradients import dead_channels
from tinytrain.report.lists import boards, ops

if TYPE_CHECKING:
    from tinytrain.compiler import Compiled
    from tinytrain.device.counters import Counters
    from tinytrain.device.project import Project
    from tinytrain.device.session import Session
    from tinytrain.device.stats import Stats
    from tinytrain.device.store import Kept
    from tinytrain.emit.fit import Room
    from tinytrain.emit.step import Estimate
    from tinytrain.emit.tuned import Optimise
    from tinytrain.frontend.trainable import Frozen
    from tinytrain.gradient.replay import Replay
    from tinytrain.ir.graph import Program
    from tinytrain.target.board import Board
    from tinytrain.target.doctor import Finding

_LISTED = "those of the ops' lists are taken, whatever --optimise says; `tinytrain tune` counts them"
FEW = 4                                                   # names of a kind in one line


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def kilobytes(bytes_: int) -> str:
    """`44.5 KB`, of 1,024 bytes."""
    return f"{bytes_ / 1024:,.1f} KB"


def room_text(room: Room | None) -> str:
    """`fits, 44.5 KB of RAM and 964.0 KB of flash left`, or what is short."""
    if room is None:
        return "fits, this computer has no bound"
    if room.fits:
        return f"fits, {kilobytes(room.ram_left)} of RAM and {kilobytes(room.flash_left)} of flash left"
    lacking = [f"{kilobytes(-left)} of {kind}" for kind, left in (("RAM", room.ram_left), ("flash", room.flash_left)) if left < 0]
    return f"is {' and '.join(lacking)} short"


def estimate_text(estimate: Estimate, board: Board) -> str:
    """`183,784 instructions, 252,841 cycles: 1.51 ms at 168 MHz (estimate)`, and by which core's counts."""
    time = ""
    if estimate.milliseconds is not None:
        time = f": {milliseconds_text(estimate.milliseconds)} ms at {board.clock_hz / 1e6:,.4g} MHz, without waits for memory"
    elif board.cores > 1:
        time = f", which {board.cores} cores share"
    counted = "" if estimate.counted_on == board.core else f", by counts of {estimate.counted_on}"
    return f"{estimate.instructions:,} instructions, {estimate.cycles:,} cycles of {board.core}{time} (estimate{counted})"


def milliseconds_text(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def compiled_text(compiled: Compiled) -> str:
    """What was compiled: the trained layers, the memory of each entry point, and how far from the bound."""
    program, plan = compiled.program, compiled.plan
    followed = {v.name for v in compiled.imported.graph.updates}
    params = [v for v in program.stored(Role.PARAM) if v.name not in followed]
    layers = list(dict.fromkeys(name for scheme in compiled.schemes for name in scheme.layers)) if params else []
    trained = sum(v.type.numel for v in params)
    frozen = frozen_text(compiled.frozen) if compiled.options.loss is not None else ""
    optimal = "proven optimal" if plan.proven_optimal else "not proven optimal"
    lines = [
        f"model      {program.name} ({compiled.prepared.path.name}) for {compiled.board.title}",
        f"trained    {trained:,} weights in {len(layers)} layers: {', '.join(layers) or 'none'}",
        *(f"  scheme {i} {', '.join(scheme.layers) or 'none'}" for i, scheme in enumerate(compiled.schemes) if len(compiled.schemes) > 1),
        *([f"method     {compiled.options.method}"] if compiled.options.method != "backprop" else []),
        *([frozen] if frozen else []),
        f"arena      {plan.arena_bytes:,} B   lower bound {plan.lower_bound_bytes:,} B for this order of nodes, {optimal}",
        f"  fixed    {plan.fixed_bytes:,} B of parameters and optimiser state",
    ]
    if compiled.options.replay is not None:
        lines.append(f"  memory   {memory_text(program, compiled.options.replay)}")
    lines += bonds_text(compiled)
    lines += [
        f"  {name:<8} {entry.arena_bytes - plan.fixed_bytes:,} B of temporaries, order: {entry.order}"
        for name, entry in plan.entries.items()
    ]
    if compiled.estimate is not None:
        which = ", of the dearest scheme" if len(compiled.schemes) > 1 else ""
        lines.append(f"step       {estimate_text(compiled.estimate, compiled.board)}{which}")
    lines += step_text(compiled)
    if compiled.options.loss is None and compiled.options.loss_by_default:
        lines.append("note       nothing can be trained, no weight, bias or factor was learned: compiled for inference only")
    lines += [f"note       {note}" for note in compiled.imported.notes]
    lines += [*fp32_text(compiled), *bits_text(compiled)]
    if compiled.imported.float_islands:
        lines.append(f"fp32 parts {', '.join(compiled.imported.float_islands)}: the quantised model leaves them in floating point")
    for v in params:
        if dead := dead_channels(v):
            channels = ", ".join(map(str, dead))
            lines.append(f"dead       {v.name}: the scales of channels {channels} are next to zero; their steps are bounded")
    if compiled.imported.cut_biases:
        lines.append(f"cut        bias of a dead channel, beyond int32, in {', '.join(compiled.imported.cut_biases)}")
    constants = sum(v.type.nbytes for v in program.constants)
    lines.append(f"constants  {constants:,} B in flash, {sum(v.type.nbytes for v in params):,} B of initial parameters")
    return "\n".join(map(printable, [*lines, *_kernels(compiled)]))


def memory_text(program: Program, replay: Replay) -> str:
    """Of samples that train again: how many, what is kept of each, and the bytes of all."""
    kept, bytes_ = held(program), held_bytes(program)
    of = "as they are given" if kept[0].role is Role.INPUT else f"what frozen layers make of them: {', '.join(str(v.type) for v in kept)}"
    new_one = f"each {replay.every}th new one" if replay.every > 1 else "each new one"
    follows = f"{replay.times} train{'s' if replay.times == 1 else ''} behind {new_one}"
    return f"{bytes_:,} B of them: {replay.samples:,} samples of {bytes_ // replay.samples:,} B ({of}), {replay.choice}; {follows}"


def bonds_text(compiled: Compiled) -> list[str]:
    """What holds on to where the model started."""
    distil, elastic = compiled.options.distil, compiled.options.elastic
    lines = [f"distil     what it says by its first weights counts {distil.weight:g} times as much as the targets"] if distil else []
    if elastic:
        roots = sum(v.type.nbytes for v in compiled.program.constants if v.name.startswith("pull_"))
        lines.append(f"elastic    {roots:,} B of flash say how hard each weight is pulled home: {elastic.strength:g} in the mean")
    return lines


def _kernels(compiled: Compiled) -> list[str]:
    """What the kernels take by each way to choose them, where they were counted (`tinytrain tune`)."""
    tuning = compiled.tuning
    lines = [f"note       {tuning.note}"] if tuning.note else []
    ways: tuple[Optimise, ...] = ("speed", "balanced", "size")
    sums = {way: summed(compiled.program, tuning.kernels(compiled.program, way)) for way in ways if tuning.tables}
    if not sums or not sums["speed"].counted:
        asked = [] if tuning.optimise == "balanced" else [f"note       no kernel was counted for {tuning.board.core}: {_LISTED}"]
        return lines + asked
    lines.append(f"kernels    for {tuning.optimise}; {sums['speed'].counted} of {sums['speed'].calls} were counted on {tuning.board.core}:")
    for way, total in sums.items():
        step = "" if total.instructions is None else f", {total.instructions:,} instructions a step"
        cycles = "" if total.cycles is None else f", {total.cycles:,} estimated cycles"
        lines.append(f"  {way:<8} {total.code_bytes:,} B of code{step}{cycles}")
    return lines


def step_text(compiled: Compiled) -> list[str]:
    """How long a step in pieces keeps a program waiting, and what guards take of it."""
    step, guards = compiled.pieces, compiled.program.guards
    if step is None:
        return []
    longest = "how long they are was not counted on this board"
    if step.longest_instructions:
        longest = f"the longest, {step.longest}, takes {step.longest_instructions:,} instructions (estimate)"
    lines = [f"pieces     {step.count:,} of a training step; {longest}"]
    if step.guard_instructions and step.guard_bytes:
        cost = f"{step.guard_instructions:,} instructions of a step and {step.guard_bytes:,} B of flash (estimate)"
        lines.append(f"guards     {guards}: {cost}; none with --guards none")
    return lines


def fp32_text(compiled: Compiled) -> list[str]:
    """Which layers of a model that is stored as fp16 are not, a line for each reason; and where that costs instructions."""
    reasons: dict[str, list[str]] = {}
    for name, why in compiled.stays_fp32.items():
        reasons.setdefault(why, []).append(name)
    lines = [f"fp32       {', '.join(names)}: {why}" for why, names in reasons.items()]
    board = compiled.board
    if compiled.options.dtype == "fp16" and not board.half_arithmetic and not board.is_host:
        lines.append(f"halves     are only stored: {board.name} converts each that it reads, and takes more instructions than in fp32")
    return lines


def bits_text(compiled: Compiled) -> list[str]:
    """Which weights of four bits take a byte a number all the same, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in a_byte_each(compiled.program).items():
        reasons.setdefault(why, []).append(name)
    return [f"4 bits     a byte each take {', '.join(names)}: {why}" for why, names in reasons.items()]


def frozen_text(frozen: Sequence[Frozen]) -> str:
    """One line that names what no scheme can train, and why; "" where there is nothing."""
    reasons: dict[str, list[str]] = {}
    for one in frozen:
        reasons.setdefault(one.why, []).append(one.name)
    groups = []
    for why, names in reasons.items():
        more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
        groups.append(f"{', '.join(names[:FEW])}{more} ({why})")
    return f"frozen     {', '.join(groups)}: no scheme trains {'them' if len(frozen) > 1 else 'it'}" if groups else ""


def sizes_text(project: Project) -> str:
    """Build the project and say what the linker made of it, and what is left."""
    sizes = project.sizes()
    text = f"firmware   {project.elf()}\nflash      {sizes.flash_bytes:,} B   data {sizes.data_bytes:,} B   bss {sizes.bss_bytes:,} B"
    held = [f"{m.name} {sizes.by_memory[m.name]:,} of {m.bytes:,} B" for m in project.board.memories if sizes.by_memory[m.name]]
    left = [f"{kilobytes(m.bytes - sizes.by_memory[m.name])} of {m.name}" for m in project.board.memories if sizes.by_memory[m.name]]
    if not held:
        return f"{text}\n{room_text(None)}"
    return f"{text}\nmemory     {'   '.join(held)}\nfits, {' and '.join(left)} left"


def kept_text(kept: Kept) -> str:
    """What a board's flash held when it was last looked at."""
    saved = f"save {kept.sequence:,} counts" if kept.sequence else "no save"
    behind = ", and a torn one behind it" if kept.torn else ""
    return f"flash      {saved}{behind}; {kept.foreign:,} saves of other models or schemes, {kept.newer:,} of later formats"


def stats_text(session: Session, found: Stats, counters: Counters) -> str:
    """What a device says of itself."""
    lines = [
        f"device     {session.info.model} on {session.link.transport.name}",
        f"samples    {found.kept.steps:,} trained, {found.skipped:,} skipped, {found.not_finite:,} left out for what was not finite",
    ]
    if session.scale() is not None:
        lines.append(f"fp16       loss scale {2.0**found.loss_scale:,g}, {found.overflowed:,} steps overflowed")
    lines.append(kept_text(found.kept))
    if counters.stack_reserved_bytes:
        lines.append(f"stack      {counters.stack_bytes:,} of {counters.stack_reserved_bytes:,} B")
    if counters.clock_hz:
        lines.append(f"clock      {counters.clock_hz:,} Hz")
    return "\n".join(map(printable, lines))


def boards_text() -> str:
    rows = [["board", "title", "core", "flash", "RAM", "emulator"]]
    for board in boards():
        flash, ram = ("-" if size is None else f"{size // 1024:,} KB" for size in (board.flash_bytes, board.ram_bytes))
        emulator = board.emulator or ("-" if board.host else "none, not run by us")
        rows.append([board.name, board.title, board.core, flash, ram, emulator])
    return table(rows)


def ops_text() -> str:
    """Which ONNX ops the importer takes, by its handlers; then the op × dtype × ISA table, from the registry."""
    from tinytrain.frontend.supported import supported

    taken = [["ONNX", "fp32", "int8"]]
    taken += [[name, "yes" if plain else "", "yes" if integer else ""] for name, (plain, integer) in supported().items()]
    rows = [["op", "dtype", "kernels", "in epilogues", "gradient"]]
    for op in ops():
        kernels = ", ".join(op.kernels) or "view, no code"
        rows.append([op.name, ", ".join(op.dtypes), kernels, "yes" if op.epilogue else "", "yes" if op.gradient else ""])
    return f"{table(taken)}\n\n{table(rows)}"


def doctor_text(findings: Sequence[Finding]) -> str:
    rows = [["", "tool", "version", "needed for", "how to get it"]]
    rows += [["ok" if f.found else "--", f.name, f.version or "", f.needed_for, "" if f.found else f.get] for f in findings]
    return table(rows)
