# SPDX-License-Identifier: Apache-2.0
"""The command line: parses, calls, prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinytrain import __version__
from tinytrain.cli.answer import Answer, progress
from tinytrain.cli.command import EXIT_WRONG, Main
from tinytrain.cli.data_options import data_options, threshold_options
from tinytrain.cli.model_options import (
    METHOD,
    SHAPES,
    gradient_options,
    model_options,
    reading_options,
    schedule_options,
    schedules,
    updates,
)
from tinytrain.cli.options import (
    BOARD,
    BYTES,
    MODEL,
    PROJECT,
    Number,
    choices,
    compiler_options,
    device_options,
    option,
    parse_shapes,
)
from tinytrain.target.packages import package_kinds

if TYPE_CHECKING:
    from tinytrain.data.file import DataFile
    from tinytrain.device.project import Project

# Command → the module that has it, which is imported when the command is asked for.
ELSEWHERE = {
    "contribution": "tinytrain.cli.contribution", "flash": "tinytrain.cli.flash", "pull": "tinytrain.cli.exchange",
    "push": "tinytrain.cli.exchange", "store": "tinytrain.cli.exchange", "scheme": "tinytrain.cli.scheme",
    "search": "tinytrain.cli.scheme", "tune": "tinytrain.cli.tune", "ports": "tinytrain.cli.port", "monitor": "tinytrain.cli.port",
    "stats": "tinytrain.cli.port", "page": "tinytrain.cli.page", "open": "tinytrain.cli.page", "fit": "tinytrain.cli.fit",
    "diff": "tinytrain.cli.diff", "lr": "tinytrain.cli.lr", "init": "tinytrain.cli.init", "completion": "tinytrain.cli.completion",
}
# Heading of `tinytrain --help` → its commands.
SECTIONS = {
    "From a model to firmware": ("init", "model", "quantize", "compile", "verify", "diff", "tune"),
    "What is trained, and what that costs": ("fit", "scheme", "contribution", "search", "lr"),
    "On the host, an emulator or a board": ("train", "evaluate", "infer", "flash", "stats", "monitor", "ports", "page", "open"),
    "What was learned": ("pull", "push", "store"),
    "What there is": ("boards", "new-board", "ops", "doctor", "completion"),
}


@click.group(
    cls=Main, sections=SECTIONS, elsewhere=ELSEWHERE, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 done, 1 what was checked is not so, 2 input that cannot be used, 3 nothing was learned, 70 a fault of tinytrain, "
           "130 interrupted.",
)
@click.version_option(__version__)
def main() -> None:
    """Compile an ONNX model into C firmware that trains on a microcontroller."""


@main.command("compile", epilog="Example: tinytrain compile model.onnx --board netduinoplus2 --scheme last:2 --lr 0.02 -o out")
@MODEL
@BOARD
@METHOD
@model_options
@option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@option("--force", is_flag=True, help="Replace the folder if tinytrain made it.")
@option("--cores", type=click.IntRange(1), default=1, show_default=True, help="Cores of the board that share the work of a step.")
@option("--budget", type=BYTES, help="RAM that it may take, as 100K: arena, buffers and stack. last:auto and spread:auto fill "
        "it, what takes more is refused.")
@option("--build/--no-build", default=True, help="Also run the C compiler.")
@option("--half-arithmetic", is_flag=True,
              help="With --dtype fp16: refuse a board that stores halves but does not compute with them.")
@data_options("Samples that decide --lr auto, --class-weights balanced, --method lowrank:auto, and which layers stay fp32 (--dtype fp16)",
              required=False)
@option("--fp16-tolerance", "tolerance", type=Number(0, 1, min_open=True), show_default="0.05",
              only_with="--data", help="Part of a layer's results, or of its gradients, that fp16 may take away.")
@updates("--old", type=click.Path(path_type=Path), only_with="--elastic", metavar="FILE",
         help="Samples of before, read as --data: how much what the model knows of them depends on each weight.")
@updates("--elastic", type=Number(0, 1e9, min_open=True), only_with="--old", metavar="STRENGTH",
         help="Pull weights to where they start, the harder the more depends on them: one byte of flash for each.")
@option("--store", type=click.IntRange(1), metavar="N",
              help="Keep what is learned in the board's flash, after each N samples, and load it at start.")
@option("--classes", metavar="A,B,...|FILE|FOLDER",
              help="Names of the classes, for programs: here, one a line in a file, or as the subfolders of a folder of images are called; "
                   "those in the model's metadata `classes` without it.")
@option("--package", "packages", type=click.Choice(package_kinds()), multiple=True,
              help="Also make the folder a package of this ecosystem (docs/library.md).")
@option("--emit-graph", "graph", is_flag=True,
              help="Also write what a training step computes to graph/: as ONNX for viewers such as Netron, and as text.")
@option("--explain", is_flag=True, help="Say why: what was folded, fused, trained and frozen, each kernel, each place in memory.")
def compile_command(
    model: Path, board: str, output: Path, force: bool, cores: int, budget: int | None, build: bool, half_arithmetic: bool,
    data: DataFile | None, tolerance: float | None, old: DataFile | None, elastic: float | None, classes: str | None,
    packages: tuple[str, ...], store: int | None, explain: bool, graph: bool, **given: Any,
) -> Answer:
    """Compile MODEL (ONNX) into a folder of C that builds by itself."""
    from tinytrain.answers.explain import explained
    from tinytrain.answers.graph import graph_files
    from tinytrain.answers.nearest import suggesting
    from tinytrain.api.choices import check_fp16
    from tinytrain.api.model import Model
    from tinytrain.cli.results import compile_result
    from tinytrain.data.classes import class_names
    from tinytrain.device.project import Project
    from tinytrain.report.text import compiled_text, room_text, sizes_text
    from tinytrain.target.board import check_half_arithmetic, load_board
    from tinytrain.target.build import find_tools

    if half_arithmetic:
        check_fp16("--half-arithmetic", given["dtype"])
        check_half_arithmetic(load_board(board))
    with progress() as bar:
        made = Model(model).compile(
            board, given.pop("schemes"), calibration=data, tolerance=tolerance, budget=budget, cores=cores, store=store or 0,
            classes=class_names(classes) if classes else (), old=old, elastic=elastic, progress=bar, **choices(given),
        )
    if build:
        find_tools(made.board)
    compiled = made.compiled
    with progress() as bar, suggesting(model, compiled.options, bar):
        made.write(
            output, force=force, packages=packages, then=(lambda folder: Project.open(folder).elf()) if build else None,
            more=graph_files(compiled) if graph else None,
        )
    unsure = "" if compiled.room is None or compiled.room.fits else ", by an estimate of its code: the linker will say"
    lines = [
        compiled_text(compiled), *([f"\n{explained(compiled)}\n"] if explain else []), f"project    {output}",
        sizes_text(made.project) if build else f"{room_text(compiled.room)}{unsure}",
    ]
    return Answer("\n".join(lines), compile_result(compiled, output, made.project if build else None))


@main.command(epilog="Example: tinytrain train out --data data.npz --epochs 5 --port auto")
@PROJECT
@data_options()
@option("--validation", type=click.Path(path_type=Path), help="Samples to measure accuracy on after each epoch.")
@option("--holdout", type=Number(0, 0.9), default=0.1, show_default=True, not_with="--validation",
              help="Part of the data kept for that where no --validation is given.")
@option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Times that all samples are seen.")
@option("--patience", type=click.IntRange(1), metavar="N", help="Stop when for N epochs none was better, by --validation or --holdout.")
@option("--balanced", is_flag=True, help="Show as many samples of each class in an epoch: fewer of frequent ones, rare ones again.")
@schedules("--lr", type=Number(0), help="Learning rate; the compiled one without it.")
@schedule_options
@option("--limit", type=click.IntRange(1), help="Use only the first N samples.")
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the order of samples.")
@option("--skip-below", type=Number(0), show_default="0, or that of a loss without labels",
        help="Leave samples out whose loss is below this: no backward pass, no update; 0.1 is recommended with ce.")
@option("--remember", type=click.Path(path_type=Path), metavar="FILE",
        help="Samples of before, which the memory (compile --replay) is shown first; they train again beside the new ones.")
@option("--skip-above", type=Number(0), show_default="none, or that of a loss without labels",
        help="The same for samples whose loss is above this: what is not normal, or not sure; 0 leaves none out.")
@option("--use-scheme", "scheme", type=click.IntRange(0), default=0, help="Which --scheme of `compile` to train, counted from 0.")
@option("--resume", is_flag=True, help="Go on after the last finished epoch that is kept in PROJECT.")
@option("--force", is_flag=True, not_with="--resume", help="Train anew, and replace what an earlier training has left in PROJECT.")
@option("--changed", is_flag=True, only_with="--resume",
        help="Also where data or options are not those of before.")
@device_options
def train(project: Project, data: DataFile, validation: DataFile | None, remember: DataFile | None, timeout: float, **plan: Any) -> Answer:
    """Train PROJECT on its board with the samples of a data file; writes history.json, learned.npz and learned.onnx.

    The best epoch by the validation samples is kept; last.npz is the last one, where that is another.
    """
    from tinytrain.api.build import Build
    from tinytrain.cli.results import Train
    from tinytrain.learn.checkpoint import left_by

    if validation is not None:
        plan["holdout"] = 0.0                             # what stands there by default
    with progress() as bar, Build(project=project).device(timeout=timeout) as device:
        history = device.train(data, validation=validation, remember=remember, keep=True, progress=bar, **plan)
    files = tuple(project.folder / name for name in left_by(project))
    return Answer("", Train(project.folder, history.before, history.untrained, tuple(history), history.record.best, files))


@main.command(epilog="Example: tinytrain infer out --data test.npz -o outputs.npz")
@PROJECT
@data_options()
@option("--learned", is_flag=True, help="Start from PROJECT/learned.npz in place of the weights that the device has.")
@option("--limit", type=click.IntRange(1), help="Use only the first N samples.")
@option("-o", "--output", type=click.Path(path_type=Path), help="npz for the outputs.")
@threshold_options
@device_options
def infer(
    project: Project, data: DataFile, learned: bool, limit: int | None, output: Path | None, timeout: float, **how: float | None,
) -> Answer:
    """Run PROJECT on its board over the samples of a data file; prints how good outputs are where there are targets."""
    from tinytrain.api.build import Build
    from tinytrain.atomic import check_files, write_bytes
    from tinytrain.cli.results import Infer, plain
    from tinytrain.learn.state import npz
    from tinytrain.report.metrics_text import outputs_lines

    check_files(output)
    with progress() as bar, Build(project=project).device(timeout=timeout) as device:
        if learned:
            device.load()
        found = device.infer(data, limit=limit, progress=bar)
    if output is not None:                                # first: what is wrong with a threshold takes no outputs away
        write_bytes(output, npz(found.named))
    metrics = found.metrics(**how)
    lines = outputs_lines(metrics, found.said) + ([f"outputs    {output}"] if output is not None else [])
    return Answer("\n".join(lines), Infer(len(found), plain(metrics), output), asked=True)


@main.command("evaluate", epilog="Example: tinytrain evaluate out --data test.npz --port auto")
@PROJECT
@data_options()
@option("--learned", is_flag=True, help="Start from PROJECT/learned.npz in place of the weights that the device has.")
@option("--limit", type=click.IntRange(1), help="Use only the first N samples.")
@threshold_options
@device_options
def evaluate_command(project: Project, data: DataFile, learned: bool, limit: int | None, timeout: float, **how: float | None) -> Answer:
    """Measure PROJECT on its board over the samples of a data file; nothing is learned.

    Prints the loss, and what suits the targets: confusion of classes, yes and no, MSE and MAE, or what a model cannot give back.
    """
    from tinytrain.api.build import Build
    from tinytrain.cli.results import Evaluate, plain
    from tinytrain.report.metrics_text import outputs_lines

    with progress() as bar, Build(project=project).device(timeout=timeout) as device:
        if learned:
            device.load()
        found = device.evaluate(data, limit=limit, progress=bar)
    metrics = found.metrics(**how)
    lines = [f"loss       {found.loss:.4f} of {len(found):,} samples", *outputs_lines(metrics, found.said)]
    return Answer("\n".join(lines), Evaluate(len(found), found.loss, plain(metrics)), asked=True)


@main.command(epilog="Example: tinytrain verify model.onnx --scheme last:2")
@MODEL
@reading_options
@gradient_options
@option("--oracle", type=click.Choice(["differences", "tvm"]), default="differences", show_default=True,
              help="What the gradients are compared with.")
@option("--samples", type=click.IntRange(1), default=40, show_default=True, help="Elements compared in each parameter.")
def verify(model: Path, oracle: str, samples: int, **given: Any) -> Answer:
    """Check the gradients of MODEL: against central differences in float64, or against TVM."""
    from tinytrain.cli.results import Verify
    from tinytrain.verify.model import LIMITS, verify_model

    report = verify_model(model, compiler_options("host", **given), oracle, samples)
    result = Verify(oracle, LIMITS[oracle], report.passed, report.errors, report.left_out, report.declined)
    return Answer(report.text, result, asked=True, exit_code=0 if report.passed else EXIT_WRONG)


@main.command(epilog="Example: tinytrain quantize model.onnx --data train.npz -o int8.onnx")
@MODEL
@data_options("Samples to calibrate with")
@option("-o", "--output", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@option("--method", type=click.Choice(["minmax", "percentile", "mse"]), default="minmax", show_default=True, help="Choice of ranges.")
@option("--percentile", type=Number(50, 100, min_open=True), default=99.99, show_default=True, only_with="--method percentile",
        help="Part of the values that a range keeps.")
@option("--equalise", is_flag=True, help="Even out the channels of layers that follow each other, for depthwise networks.")
@option("--bias-correction/--no-bias-correction", default=True, show_default=True, help="Take the mean error of each channel back.")
@option("--adaround", is_flag=True, help="Learn whether each weight is rounded up or down.")
@option("--per-tensor", is_flag=True, help="One scale for a whole weight in place of one for each output channel.")
@option("--bits", type=click.Choice(["8", "4", "mixed"]), default="8", show_default=True,
        help="Bits of weights; mixed: as many in each layer as --flash-budget leaves, where they are missed least.")
@option("--flash-budget", type=BYTES, only_with="--bits mixed", help="Flash for all layers, none of them trained: 30K.")
@option("--samples", type=click.IntRange(1), default=256, show_default=True, help="Samples to use, evenly spread over the data.")
@option("--report", type=click.Path(path_type=Path), help="JSON file for the report.")
@SHAPES
def quantize(model: Path, data: DataFile, output: Path, report: Path | None, shapes: Sequence[str], **given: Any) -> Answer:
    """Quantise MODEL (float32 ONNX) to int8 and write it as ONNX in QDQ form; prints what each layer lost."""
    from tinytrain.api.model import Model
    from tinytrain.atomic import check_files, write_bytes, write_text
    from tinytrain.cli.results import Quantize

    check_files(output, report)
    with progress() as bar:
        made = Model(model).quantise(data, shapes=parse_shapes(shapes), progress=bar, **given)
    write_bytes(output, made.path.read_bytes())
    if report is not None:
        write_text(report, made.report.to_json())
    return Answer(f"{made.report.text()}\nmodel      {output}", Quantize(output, made.report))


@main.command("model", epilog="Example: tinytrain model cnn -o model.onnx")
@click.argument("name")
@option("-o", "--output", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the weights.")
def model_command(name: str, output: Path, seed: int) -> Answer:
    """Write a small untrained model to try things on: mlp (64-32-16-10), cnn (8x8 images, 10 classes) or gesture (3x32, 4 classes)."""
    from tinytrain import zoo
    from tinytrain.atomic import write_bytes
    from tinytrain.cli.results import Written

    write_bytes(output, zoo.model(name, seed).SerializeToString())
    return Answer(f"model      {output}", Written(output))


@main.command(epilog="Example: tinytrain boards")
def boards() -> Answer:
    """List the boards."""
    from tinytrain.cli.results import Boards
    from tinytrain.report import lists
    from tinytrain.report.text import boards_text

    return Answer(boards_text(), Boards(tuple(lists.boards())), asked=True)


@main.command("new-board", epilog="Example: tinytrain new-board my-board --soc stm32f4")
@click.argument("name")
@option("--soc", required=True, help="Its chip: a folder of boards/soc, as stm32f4.")
@option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for it; here without.")
def new_board(name: str, soc: str, output: Path) -> Answer:
    """Write NAME/board.toml, a commented start for a board of your own."""
    from tinytrain.cli.results import Written
    from tinytrain.target.new_board import write_new_board

    path = write_new_board(name, soc, output)
    return Answer(f"board      {path}\nuse it     tinytrain compile MODEL --board {path} ...", Written(path))


@main.command(epilog="Example: tinytrain ops")
def ops() -> Answer:
    """List the ops, their element types and the instruction sets they have kernels for."""
    from tinytrain.cli.results import Ops
    from tinytrain.frontend.supported import supported
    from tinytrain.report import lists
    from tinytrain.report.text import ops_text

    taken = {name: (*(["fp32"] if plain else []), *(["int8"] if integer else [])) for name, (plain, integer) in supported().items()}
    return Answer(ops_text(), Ops(taken, tuple(lists.ops())), asked=True)


@main.command(epilog="Example: tinytrain doctor")
def doctor() -> Answer:
    """List each tool: found, version, what needs it, how to get it."""
    from tinytrain.cli.results import Doctor
    from tinytrain.report.text import doctor_text
    from tinytrain.target.doctor import examine

    found = examine()
    return Answer(doctor_text(found), Doctor(tuple(found)), asked=True)
