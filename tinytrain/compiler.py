# SPDX-License-Identifier: Apache-2.0
"""The whole compiler as one ordered list of steps: ONNX file → Program → plan → a folder of C."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinytrain import __version__, passes
from tinytrain.atomic import whole_folder
from tinytrain.emit.auxiliary import auxiliary_file
from tinytrain.emit.fit import Room, buffer_bytes, check_fit, check_kept, constants_elsewhere, needs_of, room
from tinytrain.emit.golden import golden_vectors
from tinytrain.emit.plan_json import plan_json
from tinytrain.emit.project import Emitter, link_keys
from tinytrain.emit.step import Estimate, Pieces, estimate, pieces, worth
from tinytrain.emit.tuned import Optimise, Tuning
from tinytrain.errors import OutputError
from tinytrain.frontend.asked import check_asked
from tinytrain.frontend.classes import class_names
from tinytrain.frontend.new_head import NewHead
from tinytrain.frontend.ports import described, described_target
from tinytrain.gradient.distil import Distil
from tinytrain.gradient.elastic import Elastic
from tinytrain.gradient.loss_scale import LossScale
from tinytrain.gradient.methods import method
from tinytrain.gradient.objective import Objective, aimed, reached
from tinytrain.gradient.replay import Replay, with_replay
from tinytrain.gradient.train_step import build_program
from tinytrain.gradient.update import Optimiser
from tinytrain.ir.graph import Graph, Guards, Program
from tinytrain.ir.types import Role
from tinytrain.ir.verify import verify
from tinytrain.origins import Origin, origin, versions
from tinytrain.passes.halve_weights import halve_weights
from tinytrain.passes.lower_fp16 import absorbed, halve_gradients, lower_fp16, stays_fp32
from tinytrain.passes.lower_integer import lower_integer
from tinytrain.passes.pack_four_bits import pack_four_bits
from tinytrain.passes.scale_gradients import scale_gradients
from tinytrain.passes.share_constants import share_constants
from tinytrain.passes.stored_input import stored_input
from tinytrain.passes.watch_gradients import watch_gradients
from tinytrain.paths import licence
from tinytrain.planner import ProgramPlan, plan_program
from tinytrain.schemes.choose import choose
from tinytrain.schemes.precision import Floats, Rule, check_names, fp32_layers
from tinytrain.schemes.scheme import Scheme, check_rates, check_trains, layers, with_rates
from tinytrain.seal import digest, seal
from tinytrain.target.board import Board, load_board
from tinytrain.target.build import project_files
from tinytrain.target.packages import package_files

if TYPE_CHECKING:
    from tinytrain.frontend.onnx_import import Imported
    from tinytrain.frontend.prepare import Prepared
    from tinytrain.frontend.trainable import Frozen


Gradients = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Options:
    """What a person chooses. `loss` None compiles for inference only, and so does one `loss_by_default` where nothing can be trained;
    `shapes` fixes dynamic inputs; `qas` is for int8 models; `truncate` cuts gradients of recurrent layers at each so many steps, 0 nowhere;
    with `running_statistics` those of batch norms, which are then not folded, follow the samples that train.

    `grad` is how gradients of activations are stored; with fp16 `loss_scale` keeps them in range on their way; int8 trains an int8 model
    without any floating point. `dtype` is how all floats are stored that can be, weights, activations and gradients, where `precision` does
    not say otherwise.
    `cores` of the board share the work of each kernel that can be split.
    The device starts with `scheme` and can switch to any of `further_schemes`.
    `loss_options` are attributes of the loss, `rates` multiply the learning rate of layers in place of those of the schemes.
    `guards` are those of `Program`; gradients stored as fp16 have those of `loss_scale`.
    `method` is how it learns (`gradient/methods`).
    `classes` are what a model's file does not say: names of the elements of its output.
    `optimise` says what kernels compete by, `tuned` is a table of counts in place of the user's own (docs/tuning.md).
    `replay` is a memory of samples that train again behind each new one; `distil` and `elastic` hold on to where the model started.
    The firmware keeps what it learns in flash after each `store` samples, 0: never (docs/store.md).
    `origins` are files that other options were read from.
    `asked` are options of the command line (`frontend.asked`) that are refused where the model has nothing that they change.
    """

    board: str = "host"
    loss: str | None = "ce"
    scheme: str | Scheme = "full"
    optimiser: Optimiser = field(default_factory=Optimiser)
    fold_batchnorm: bool = True
    running_statistics: bool = False
    dropout: bool = False
    truncate: int = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    qas: bool = True
    grad: Gradients = "fp32"
    dtype: Floats = "fp32"
    precision: tuple[Rule, ...] = ()
    loss_scale: LossScale = field(default_factory=LossScale)
    int8_input: bool = False
    exact_seconds: float = 3.0
    new_head: NewHead | None = None
    further_schemes: tuple[str | Scheme, ...] = ()
    loss_by_default: bool = False
    method: str = "backprop"
    optimise: Optimise = "balanced"
    tuned: Path | None = None
    loss_options: dict[str, float | tuple[float, ...]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    guards: Guards = "rest"
    classes: tuple[str, ...] = ()
    store: int = 0
    replay: Replay | None = None
    distil: Distil | None = None
    elastic: Elastic | None = None
    cores: int = 1
    origins: tuple[Origin, ...] = ()
    asked: tuple[str, ...] = ()

    @property
    def objective(self) -> Objective | None:
        """The losses with their options."""
        return None if self.loss is None else Objective(self.loss, self.loss_options)

    @property
    def rule(self) -> Optimiser:
        """The optimiser, told how gradients are scaled on their way."""
        return replace(self.optimiser, loss_scale=self.loss_scale) if "fp16" in (self.grad, self.dtype) else self.optimiser


@dataclass(frozen=True, eq=False)
class Compiled:
    """Everything the compiler knows about a model on a board; `write` makes the folder. The device starts with the first scheme.

    `files` are the model's own C, by name; `frozen` are the constants that no scheme trains. `estimate` is None where nothing was counted,
    `room` on the host. `origins` are all files that it was made from: the same, read by the same versions, make the same bytes.
    """

    prepared: Prepared
    imported: Imported
    schemes: tuple[Scheme, ...]
    program: Program
    plan: ProgramPlan
    board: Board
    options: Options
    tuning: Tuning
    files: dict[str, str]
    readme: str
    frozen: tuple[Frozen, ...] = ()
    class_names: tuple[str, ...] = ()
    pieces: Pieces | None = None
    estimate: Estimate | None = None
    room: Room | None = None
    origins: tuple[Origin, ...] = ()

    @property
    def stays_fp32(self) -> dict[str, str]:
        """Layer → why it is not stored as fp16, where the model is."""
        return stays_fp32(self.options.precision, self.imported.graph, self.program) if self.options.dtype == "fp16" else {}


def load_model(path: Path, options: Options) -> tuple[Prepared, Imported]:
    """Read, check, simplify and import a model. Raises ModelError."""
    from tinytrain.frontend.onnx_import import import_model
    from tinytrain.frontend.prepare import prepare

    folds, running = options.fold_batchnorm and not options.running_statistics, options.running_statistics and options.loss is not None
    how = method(options.method)
    if how.by_layer:
        plain = load_forward(path, replace(options, method="backprop"))[2]
        how = how.of_schemes((options.scheme, *options.further_schemes), plain)
    prepared = prepare(path, fold_batchnorm=folds, shapes=options.shapes, new_head=options.new_head, method=how)
    check_asked(options.asked, prepared.model, path)
    return prepared, import_model(prepared, dropout=options.dropout, truncate=options.truncate, running=running)


def load_forward(path: Path, options: Options) -> tuple[Prepared, Imported, Graph]:
    """A model and its forward graph, which all schemes start from. Raises ModelError."""
    prepared, imported = load_model(path, options)
    forward = passes.run(imported.graph, passes.FORWARD)
    forward = stored_input(forward, path) if options.int8_input else forward
    if options.dtype == "fp16":
        check_names(options.precision, imported.graph)
        forward = verify(halve_weights(forward, fp32_layers(options.precision, forward)), "halve_weights")
    return prepared, imported, forward


def lowered(program: Program, options: Options) -> Program:
    """A training program as it will run: through all passes."""
    program = with_replay(program, options.replay) if options.replay else program
    scaled = options.qas and method(options.method).backward     # without, gradients are those of real weights already
    steps = [step for step in passes.GRADIENTS if scaled or step is not scale_gradients]
    program = program.map(lambda graph: passes.run(graph, steps))
    if options.grad == "int8":
        program = lower_integer(program)
    fused = program.map(lambda graph: passes.run(graph, passes.KERNELS))
    last: tuple[passes.Pass, ...] = (halve_gradients, watch_gradients) if options.grad == "fp16" else ()
    if options.dtype == "fp16":
        stay = absorbed(options.precision, program.entries["infer"], fused.entries["infer"])
        last = (partial(lower_fp16, fp32=stay), watch_gradients)
    fused = pack_four_bits(fused.map(lambda graph: passes.run(graph, last)), at_any_peak=options.optimise != "speed")
    return replace(share_constants(fused), guards=options.guards)


@dataclass(frozen=True, eq=False)
class Understood:
    """A model and what is to be trained of it, as a program through all passes; for which board does not matter yet."""

    prepared: Prepared
    imported: Imported
    frozen: tuple[Frozen, ...]
    schemes: tuple[Scheme, ...]
    options: Options
    program: Program


def understand(path: Path, options: Options) -> Understood:
    """The first half of compiling. Raises TinytrainError subclasses."""
    prepared, imported, forward = load_forward(path, options)
    frozen = _frozen(imported, forward, options)
    options = replace(options, loss=None) if options.loss_by_default and not layers(forward) else options
    schemes = tuple(chosen_scheme(scheme, forward, frozen, options) for scheme in (options.scheme, *options.further_schemes))
    check_rates(options.rates, schemes)
    learning = method(options.method)
    learning.check(options.grad, options.dtype, len(schemes), options.optimiser.accumulate, options.replay is not None)
    bonds = options.distil, options.elastic
    program = lowered(build_program(forward, options.objective, schemes[0], options.rule, schemes[1:], learning, *bonds), options)
    return Understood(prepared, imported, frozen, schemes, options, program)


def compile_model(path: Path, options: Options) -> Compiled:
    """Compile an ONNX file for a board. Raises TinytrainError subclasses; writes nothing."""
    board = load_board(options.board).with_cores(options.cores)
    board = board.keeping() if options.store else board
    model = understand(path, options)
    program = model.program
    tuning = Tuning.of(board, options.optimise, options.tuned)
    kernels = tuning.kernels(program)
    plan = plan_program(program, align=8, needs=needs_of(kernels), exact_seconds=options.exact_seconds)
    program = replace(program, worth=worth(program, plan, kernels, board))
    elsewhere = constants_elsewhere(program, board)
    check_fit(program, plan, board)
    if options.store:
        check_kept(program, board)
    names = class_names(options.classes, model.prepared, program.entries["infer"])
    took = estimate(program, plan, kernels, board)
    emitter = Emitter(program, plan, board, model.prepared.hash, elsewhere, kernels, names)
    return Compiled(
        model.prepared, model.imported, model.schemes, program, plan, board, model.options, tuning, emitter.files(),
        emitter.readme(board, board.stack_bytes), model.frozen, names,
        pieces(emitter, board), took, room(program, plan, board, took.code_bytes if took else 0),
        (*model.prepared.origins, *options.origins, *_origins(options, board, tuning)),
    )


def _origins(options: Options, board: Board, tuning: Tuning) -> Iterator[Origin]:
    """Files that options were read from, and those of a board that does not come with tinytrain."""
    names = [scheme for scheme in (options.scheme, *options.further_schemes) if isinstance(scheme, str)]
    schemes = [Path(name) for name in names if name.endswith(".toml")]
    own = [] if board.is_ours else [board.file, *(place / name for place in board.places[:-1] for name in board.sources)]
    read = {"scheme": schemes, "counts of kernels": [tuning.file] if tuning.file else [], "board": own}
    yield from (origin(kind, path) for kind, paths in read.items() for path in paths if path.is_file())


def write(
    compiled: Compiled, out: Path, *, force: bool = False, packages: Sequence[str] = (), then: Callable[[Path], object] | None = None,
    more: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Write the self-contained project, sealed as this user's, and return its manifest. The folder appears whole or not at all.

    `packages` are the kinds of ecosystems (`target.packages`) that find their way in it too, `more` are further files.
    `then` is given the folder before it appears; what it raises takes the folder away. Raises OutputError where `out` exists; `force`
    replaces it only if it is a folder that this function made, and only when all else is done.
    """
    if out.exists() and not (force and (out / "manifest.json").is_file()):
        hint = "Choose another -o, or give --force to replace it." if (out / "manifest.json").is_file() else "Choose another -o."
        raise OutputError(f"{out} exists already; nothing was written.", hint=hint)
    with whole_folder(out) as folder:
        manifest = _fill(compiled, folder, packages, more or {})
        if then is not None:
            then(folder)
    return manifest


def _fill(compiled: Compiled, folder: Path, packages: Sequence[str], more: Mapping[str, bytes]) -> dict[str, Any]:
    """All files of a project; the manifest has the SHA-256 of each, and a seal that says who made it."""
    plan = plan_json(compiled.program, compiled.plan, compiled.tuning.kernels(compiled.program), compiled.board)
    texts = {**_c_files(compiled), "README.md": compiled.readme, "LICENSE": licence()}
    texts["plan.json"] = json.dumps(plan, separators=(",", ":")) + "\n"
    sources = [file.removeprefix("lib/") for file in texts if re.fullmatch(r"lib/.*\.c", file)]
    purpose = "trains and infers" if compiled.program.trains else "infers"
    for kind in packages:
        texts.update(package_files(kind, compiled.board, compiled.program.name, sources, f"{purpose} on a microcontroller"))
    texts.update({f"scheme_{i}.toml" if i else "scheme.toml": scheme.to_toml() for i, scheme in enumerate(compiled.schemes)})
    written = {name: text.encode("utf-8") for name, text in texts.items()} | dict(more) | auxiliary_file(compiled.program)
    written["model.onnx"] = compiled.prepared.model.SerializeToString(deterministic=True)
    for name, content in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    golden_vectors(compiled.program).save(folder / "golden.npz")
    files = {name: digest((folder / name).read_bytes()) for name in sorted((*written, "golden.npz"))}
    manifest = {**describe(compiled), "files": files}
    data = (json.dumps(manifest, indent=2) + "\n").encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.seal").write_text(f"{seal(data)}\n", encoding="ascii")
    return manifest


def _c_files(compiled: Compiled) -> dict[str, str]:
    program, board = compiled.program, compiled.board
    return project_files(
        board, program.name, compiled.files, stack_bytes=board.stack_bytes, arena_bytes=compiled.plan.arena_bytes,
        buffer_bytes=buffer_bytes(program), store_every=compiled.options.store,
    )


def describe(compiled: Compiled) -> dict[str, Any]:
    """The manifest: what was compiled from what, for which board, with which sizes and layouts."""
    program, plan, imported = compiled.program, compiled.plan, compiled.imported
    infer, train = program.entries["infer"], program.entries.get("train")
    keys = link_keys(program)
    return {
        "tinytrain": __version__,
        "name": program.name,
        "model": compiled.prepared.path.name,
        "model_sha256": compiled.prepared.hash.hex(),
        "inputs": [asdict(one) for one in compiled.origins],
        "versions": versions(),
        "licence": {"code": "Apache-2.0", "weights": "that of the model"},
        "board": compiled.board.name,
        **({} if compiled.board.is_ours else {"board_file": str(compiled.board.file)}),
        **({"cores": compiled.board.cores} if compiled.board.cores > 1 else {}),
        "isa": list(compiled.board.isa),
        "loss": compiled.options.loss,
        "loss_options": compiled.options.loss_options,
        "schemes": [scheme.plain() for scheme in compiled.schemes],
        "optimiser": asdict(compiled.options.rule),
        "gradients": compiled.options.grad,
        **({"replay": asdict(compiled.options.replay)} if compiled.options.replay else {}),
        **({"distil": asdict(compiled.options.distil)} if compiled.options.distil else {}),
        **({"elastic": {"strength": elastic.strength, "digest": elastic.digest}} if (elastic := compiled.options.elastic) else {}),
        **({"guards": compiled.options.guards} if compiled.options.guards != Options.guards else {}),
        **({"qas": False} if not compiled.options.qas else {}),
        **({"method": compiled.options.method} if compiled.options.method != "backprop" else {}),
        **({"store": compiled.options.store} if compiled.options.store else {}),
        "dtype": compiled.options.dtype,
        "fp32": compiled.stays_fp32,
        "input": described([infer.inputs[0]], imported.inputs),
        "output": described(infer.outputs, imported.outputs),
        **({"classes": list(compiled.class_names)} if compiled.class_names else {}),
        "target": described_target(train.inputs[1], aimed(compiled.options.objective, infer)) if train else None,
        "parameters": [
            {"name": source.initializer, "key": keys[v], "shape": list(v.shape), "source": asdict(source)}
            for v, source in ((v, v.home) for v in program.stored(Role.PARAM))
        ],
        "memory": {
            "arena_bytes": plan.arena_bytes, "fixed_bytes": plan.fixed_bytes, "lower_bound_bytes": plan.lower_bound_bytes,
            "proven_optimal": plan.proven_optimal,
            "entries": {
                key: {"arena_bytes": p.arena_bytes, "lower_bound_bytes": p.lower_bound_bytes, "order": p.order}
                for key, p in plan.entries.items()
            },
        },
        "pieces": asdict(compiled.pieces) if compiled.pieces else None,
        "estimate": asdict(compiled.estimate) if compiled.estimate else None,
        "room": asdict(compiled.room) if compiled.room else None,
        "constants_bytes": sum(v.type.nbytes for v in program.constants),
        "macs": {key: sum(n.op.cost(*n.kinds).macs for n in graph.nodes) for key, graph in program.entries.items()},
    }


def _frozen(imported: Imported, forward: Graph, options: Options) -> tuple[Frozen, ...]:
    """What no scheme trains: what none could, and what no loss depends on."""
    never = imported.constants.frozen(forward)
    names = {one.name for one in never}
    unread = imported.constants.frozen(reached(options.objective, forward)) if options.loss is not None else ()
    return (*never, *(replace(one, why="no loss depends on it", decided=True) for one in unread if one.name not in names))


def chosen_scheme(scheme: str | Scheme, forward: Graph, frozen: Sequence[Frozen], options: Options) -> Scheme:
    """A scheme by name, path or itself. Raises SchemeError where there is a loss and nothing that it trains."""
    reachable = reached(options.objective, forward)
    found = with_rates(method(options.method).scheme(scheme, reachable), options.rates, reachable)
    if options.loss is not None:
        check_trains(found, forward, [f"{one.name} ({one.why})" for one in frozen])
    return found


def scheme_of(path: Path, options: Options) -> tuple[Scheme, tuple[Frozen, ...]]:
    """The scheme that the options name, for this model, and what no scheme trains of it. Raises ModelError or SchemeError."""
    _, imported, graph = load_forward(path, options)
    frozen = _frozen(imported, graph, options)
    scheme = chosen_scheme(options.scheme, graph, frozen, options)
    check_rates(options.rates, [scheme])
    choose(scheme, graph)
    return scheme, frozen
