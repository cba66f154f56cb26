# SPDX-License-Identifier: Apache-2.0
"""What commands give with --json: a class for each kind of document, its fields as they stand there (docs/json.md is made of this file).

Other modules are imported for their types only: an answer has what its command has made already.

`schema` ends in a version. Within one, fields may be added; a field that goes, or means something else, makes a new version.
Sizes are in bytes, accuracies and ratios parts of 1. Paths are as they were given. A number that is not finite is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tinytrain.ir.types import Role

if TYPE_CHECKING:
    from tinytrain.answers.diff import Difference
    from tinytrain.compiler import Compiled
    from tinytrain.device.project import Project
    from tinytrain.device.stats import Stats
    from tinytrain.device.store import Kept
    from tinytrain.emit.fit import Room
    from tinytrain.emit.step import Estimate
    from tinytrain.frontend.trainable import Frozen
    from tinytrain.learn.find_rate import Trial
    from tinytrain.learn.state import Epoch
    from tinytrain.quantise.report import Report
    from tinytrain.report.lists import BoardLine, OpLine
    from tinytrain.report.metrics import Metric
    from tinytrain.search.contribution import Contributions
    from tinytrain.search.cost import SchemeCost
    from tinytrain.target.doctor import Finding
    from tinytrain.verify.checks import GradientError
    from tinytrain.verify.left_out import LeftOut


@dataclass(frozen=True)
class Result:
    """Base of all kinds; `commands` are those that give it."""

    schema: ClassVar[str]
    commands: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Error(Result):
    """Instead of any other kind, with exit code 2, or 3 where a training failed: what is wrong, and what to try."""

    schema = "error/1"
    error: str
    details: tuple[str, ...]
    hint: str | None


@dataclass(frozen=True)
class Written(Result):
    """A file or folder that was made."""

    schema = "written/1"
    commands = ("init", "model", "new-board", "page")
    path: Path


@dataclass(frozen=True)
class Served(Result):
    """Where the page is until Ctrl-C; printed as soon as it is there."""

    schema = "served/1"
    commands = ("open",)
    address: str


@dataclass(frozen=True)
class Said(Result):
    """What a command did, line by line."""

    schema = "said/1"
    commands = ("flash", "pull", "push", "monitor", "tune", "completion")
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Compile(Result):
    """A project; more stands in its manifest.json. `trained` counts the weights that any scheme trains, of these `layers`.

    `room` is what the planner and estimates leave of the board, null on the host; sizes of flash, data and bss are those of the linked
    firmware, null without it.
    """

    schema = "compile/1"
    commands = ("compile",)
    project: Path
    name: str
    board: str
    trained: int
    layers: tuple[str, ...]
    arena_bytes: int
    lower_bound_bytes: int
    proven_optimal: bool
    constants_bytes: int
    room: Room | None
    estimate: Estimate | None
    firmware: Path | None
    flash_bytes: int | None
    data_bytes: int | None
    bss_bytes: int | None


def compile_result(compiled: Compiled, folder: Path, built: Project | None) -> Compile:
    """Of what was compiled into a folder, and built where there is a project."""
    program, plan = compiled.program, compiled.plan
    sizes = built.sizes() if built else None
    parameters = program.stored(Role.PARAM) if program.trains else ()
    return Compile(
        folder, program.name, compiled.board.name, sum(v.type.numel for v in parameters),
        tuple(dict.fromkeys(name for scheme in compiled.schemes for name in scheme.layers)), plan.arena_bytes, plan.lower_bound_bytes,
        plan.proven_optimal, sum(v.type.nbytes for v in program.stored(Role.CONST)), compiled.room, compiled.estimate,
        built.elf() if built else None,
        sizes.flash_bytes if sizes else None, sizes.data_bytes if sizes else None, sizes.bss_bytes if sizes else None,
    )


@dataclass(frozen=True)
class Diff(Result):
    """What two projects differ in, and how many files are the same in both; exit code 1 where there are differences."""

    schema = "diff/1"
    commands = ("diff",)
    first: Path
    second: Path
    differences: tuple[Difference, ...]
    same_files: int


@dataclass(frozen=True)
class Train(Result):
    """A training: mean loss `before` the first step, `untrained` what the validation samples said then, as epoch 0, each epoch (of a
    resumed training the earlier ones too), the number of the `best`, whose weights are kept, and the files written.
    """

    schema = "train/1"
    commands = ("train",)
    project: Path
    before: float
    untrained: Epoch | None
    epochs: tuple[Epoch, ...]
    best: int
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Infer(Result):
    """Outputs of so many samples, in the file `output` where one was asked for. `metrics` of each output that has targets, by its name, y
    for a single one; their `kind` is classes, binary, numbers, or reconstruction (docs/data.md).
    """

    schema = "infer/1"
    commands = ("infer",)
    samples: int
    metrics: dict[str, dict[str, Any]]
    output: Path | None


@dataclass(frozen=True)
class Evaluate(Result):
    """Mean loss of so many samples, and metrics as in `infer`."""

    schema = "evaluate/1"
    commands = ("evaluate",)
    samples: int
    loss: float
    metrics: dict[str, dict[str, Any]]


def plain(metrics: Mapping[str, Metric]) -> dict[str, dict[str, Any]]:
    return {name: metric.plain() for name, metric in metrics.items()}


@dataclass(frozen=True)
class Verify(Result):
    """Gradients against an oracle. `declined` says why it could not be asked; exit code 1 where the check has not `passed`."""

    schema = "verify/1"
    commands = ("verify",)
    oracle: str
    limit: float
    passed: bool
    errors: tuple[GradientError, ...]
    left_out: tuple[LeftOut, ...]
    declined: str | None


@dataclass(frozen=True)
class Quantize(Result):
    """An int8 model, and what each layer lost."""

    schema = "quantize/1"
    commands = ("quantize",)
    model: Path
    report: Report


@dataclass(frozen=True)
class Fit(Result):
    """Boards and schemes: each row has bytes, instructions, cycles and milliseconds of a training step, null where they are not known."""

    schema = "fit/1"
    commands = ("fit",)
    model: str
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SchemeShow(Result):
    """What a scheme costs on a board, layer by layer, and what no scheme trains."""

    schema = "scheme-show/1"
    commands = ("scheme show",)
    model: str
    board: str
    cost: SchemeCost
    frozen: tuple[Frozen, ...]


@dataclass(frozen=True)
class SchemeWrite(Result):
    """A scheme as TOML, and the file that it was written to."""

    schema = "scheme-write/1"
    commands = ("scheme write",)
    scheme: str
    path: Path | None


@dataclass(frozen=True)
class Contribution(Result):
    """What training each part of a model alone gains; the file has the same."""

    schema = "contribution/1"
    commands = ("contribution",)
    path: Path
    found: Contributions


@dataclass(frozen=True)
class LearningRate(Result):
    """Which learning rate suits: the loss of samples held back `before`, and after each of the `trials` of `steps` steps, null where it
    ran away. `start` is what the loss falls from: that before, or of the best answer that is the same to all samples.
    """

    schema = "lr/1"
    commands = ("lr",)
    suggestion: float
    before: float
    start: float
    steps: int
    trials: tuple[Trial, ...]
    plot: Path | None


@dataclass(frozen=True)
class FoundScheme:
    """The best scheme under a budget of RAM, null where none was given: its TOML, what it gains in all, how far from the best one it may be
    (`gap`, null where nobody knows), what it costs, its accuracy and those of `presets` that fill the same budget where they were measured;
    and `why`, lines for people: what was chosen and left out, or what was tried. `gained` says what `gain` is of.
    """

    budget_bytes: int | None
    scheme: str
    gain: float
    gap: float | None
    cost: SchemeCost
    accuracy: float | None
    why: tuple[str, ...]
    gained: str
    presets: dict[str, float | None]


@dataclass(frozen=True)
class Search(Result):
    """A scheme for each budget, null where none fits; and the files written."""

    schema = "search/1"
    commands = ("search",)
    found: tuple[FoundScheme | None, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class DeviceStats(Result):
    """What a device says of itself. `loss_scale` in `stats` is the exponent of a power of two."""

    schema = "stats/1"
    commands = ("stats",)
    model: str
    device: str
    stats: Stats
    stack_bytes: int
    stack_reserved_bytes: int
    clock_hz: int


@dataclass(frozen=True)
class Store(Result):
    """What a board's flash holds after `what` was done: the samples behind its weights, and its saves."""

    schema = "store/1"
    commands = ("store",)
    what: str
    kept: Kept


@dataclass(frozen=True)
class Boards(Result):
    """Those that --board takes by name."""

    schema = "boards/1"
    commands = ("boards",)
    boards: tuple[BoardLine, ...]


@dataclass(frozen=True)
class Ops(Result):
    """`onnx`: op → the numbers that it is taken with, fp32 and int8. `ops`: the compiler's own."""

    schema = "ops/1"
    commands = ("ops",)
    onnx: dict[str, tuple[str, ...]]
    ops: tuple[OpLine, ...]


@dataclass(frozen=True)
class Doctor(Result):
    """Each tool: `found` is false for one that is too old, whose `version` then says what is there."""

    schema = "doctor/1"
    commands = ("doctor",)
    tools: tuple[Finding, ...]


@dataclass(frozen=True)
class Port:
    device: str
    description: str


@dataclass(frozen=True)
class Ports(Result):
    """The serial ports of this computer."""

    schema = "ports/1"
    commands = ("ports",)
    ports: tuple[Port, ...]
