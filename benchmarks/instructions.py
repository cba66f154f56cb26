# SPDX-License-Identifier: Apache-2.0
"""What every kernel call of real training steps takes, counted on emulated boards, and the table of factors fitted to that.

Run it with `python benchmarks/instructions.py`; it needs the folder ../shared/data beside the source tree. Each call of a step is
counted by itself: the emitted C is changed so that a counter starts before it and stops behind it, and waits there until it is read.
Counts are kept in benchmarks/out/instructions and not measured again: an interrupted run goes on, and one for other kernels begins with
removing them. Writes tinytrain/emit/instructions.json, and prints how far the estimate of each step is from its count, in instructions
and in cycles: by the table, and by one that was fitted without this workload. Words name boards, in place of all; with --guards first, only
what guards take is counted.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from scipy.optimize import nnls

from tinytrain import zoo
from tinytrain.atomic import write_text
from tinytrain.compiler import Compiled, Options, compile_model, write
from tinytrain.device.counting import Counter
from tinytrain.device.qemu import start_qemu
from tinytrain.emit.instructions import GUARD, SORTS, TABLE, Table, Work, code, data_bytes, works
from tinytrain.errors import DoesNotFit
from tinytrain.gradient.update import Optimiser
from tinytrain.quantise import lockstep
from tinytrain.quantise.convert import quantise_model
from tinytrain.report.live import Quiet
from tinytrain.target.board import Board, load_board
from tinytrain.target.build import build
from tinytrain.target.size import sizes

BOARDS = ("mps2-an500", "mps2-an386", "mps2-an385", "mps3-an547", "riscv-virt", "riscv-virt-rvv")
UNITS = ("instructions", "cycles")
LARGE_ON = "mps2-an500"
HERE = Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "shared" / "data" / "models"
OUT = HERE / "out" / "instructions"
COMMAND = "python benchmarks/instructions.py"
NOISE = 500                                               # instructions: a call of fewer weighs less, its count is not exact
_CALL = re.compile(r"^    (tt_\w+\(.*\);)(    /\*.*)$", re.MULTILINE)
STANDS_READY = """/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_port.h"
#include "{name}.h"

static {name}_ctx ctx;
static unsigned char arena[{NAME}_ARENA_BYTES] __attribute__((aligned({NAME}_ARENA_ALIGN), section(".arena")));
static unsigned char sample[{NAME}_INPUT_BYTES] __attribute__((aligned(16)));
static unsigned char target[{NAME}_TARGET_BYTES] __attribute__((aligned(16)));

void counted(void);

/* Counts are ready; the other side says when it has read them. */
void counted(void)
{{
    tt_port_put('.');
    tt_port_flush();
    (void)tt_port_get();
}}

"""
_MAIN = STANDS_READY + """int main(void)
{{
    float loss = 0.0f;
    uint32_t state = 1;
    tt_port_start();
    {name}_init(&ctx, arena, sizeof arena);
    {fill}
    {name}_train_step(&ctx, (const void *)sample, (const void *)target, &loss);
    tt_port_count_start();
    (void)tt_port_count_stop();
    counted();
    return 0;
}}
"""
_LOOKS = STANDS_READY.replace('#include "tt_port.h"', '#include "tt_guard.h"\n#include "tt_port.h"') + """int main(void)
{{
    const int32_t sizes[] = {{ {sizes} }};
    volatile int beyond = 0;
    tt_port_start();
    for (int32_t i = 0; i < {count}; ++i) {{
        tt_port_count_start();
        beyond = sizes[i] >= 0 && tt_beyond((const float *)(const void *)arena, sizes[i], UINT32_C(0x7F800000));
        (void)tt_port_count_stop();
        counted();
    }}
    (void)ctx;
    (void)sample;
    (void)target;
    return beyond;
}}
"""
FILL = {
    "f32": "for (uint32_t i = 0; i < sizeof sample / 4; ++i) {\n"
           "        state = state * 1664525u + 1013904223u;\n"
           "        ((float *)(void *)sample)[i] = (float)(state >> 8) * 0x1p-24f;\n    }",
    "s8": "for (uint32_t i = 0; i < sizeof sample; ++i) {\n"
          "        state = state * 1664525u + 1013904223u;\n        sample[i] = (unsigned char)(state >> 24);\n    }",
}


def measure(compiled: Compiled, folder: Path) -> dict[str, Any]:
    """Instructions, cycles and works of each kernel call of the training step, in order; bytes of code, and what they come from."""
    name, board = compiled.program.name, compiled.board
    write(compiled, folder)
    flash_bytes = sizes(build(folder, board)).flash_bytes
    source = folder / "lib" / f"{name}.c"
    head, tail = source.read_text().split("static tt_status train_0(", 1)
    body, calls = _marked(tail)
    source.write_text(f'#include "../app/tt_port.h"\nextern void counted(void);\n{head}static tt_status train_0({body}')
    kind = compiled.program.entries["infer"].inputs[0].type.dtype.tag
    (folder / "app" / "main.c").write_text(_MAIN.format(name=name, NAME=name.upper(), fill=FILL[kind]))
    *taken_by, nothing = counts(build(folder, board), board, calls + 1)
    train, kernels = compiled.plan.entries["train"], compiled.tuning.kernels(compiled.program)
    nodes = [n for n in train.graph.nodes if not n.op.view]
    assert len(taken_by) == calls == len(nodes), f"{len(taken_by)} counts of {calls} calls, {len(nodes)} nodes"
    rows = [
        {"origin": node.origin, "instructions": max(0, taken[0] - nothing[0]), "cycles": max(0, taken[1] - nothing[1]),
         "works": [asdict(work) for work in works(node, kernels.select(node, spare=train.room(node)).choice)]}
        for node, taken in zip(nodes, taken_by, strict=True)
    ]
    return {"calls": rows, "code_bytes": flash_bytes - data_bytes(compiled.program), "code": code(compiled.plan, kernels)}


def _marked(body: str) -> tuple[str, int]:
    """The body of a step with a counter around each call, and how many calls there are."""
    count = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"    tt_port_count_start();\n    {found[1]}{found[2]}\n    (void)tt_port_count_stop();\n    counted();"

    return _CALL.sub(mark, body), count


def counts(elf: Path, board: Board, calls: int, silence_seconds: float = 300.0) -> list[tuple[int, int]]:
    """Instructions and estimated cycles between each start and stop of the counter."""
    found = []
    with closing(Counter(elf, board)) as counter, closing(start_qemu(elf, board, more=counter.arguments)) as emulator:
        while len(found) < calls:
            received = emulator.read(time.monotonic() + silence_seconds)
            assert received == b".", received
            profile = counter.read()
            found.append((profile.instructions, profile.cycles or 0))
            emulator.write(b"\n", time.monotonic() + silence_seconds)
    return found


@dataclass(frozen=True)
class Workload:
    """A model, made or found by `model(folder)`, and how it is trained; `large` ones are counted on one board only."""

    name: str
    model: Callable[[Path], Path]
    options: dict[str, Any] = field(default_factory=dict)
    large: bool = False


def built_in(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return _saved(zoo.model(name), folder / f"{name}.onnx")
    return make


def stored(name: str) -> Callable[[Path], Path]:
    return lambda folder: MODELS / name


def quantised(made: Callable[[Path], Path]) -> Callable[[Path], Path]:
    """The model in int8, calibrated with noise: counts do not depend on what it has learned."""
    def make(folder: Path) -> Path:
        model = made(folder)
        shape = [d.dim_value for d in onnx.load(model).graph.input[0].type.tensor_type.shape.dim]
        noise = np.random.default_rng(0).normal(size=(16, *shape[1:])).astype(np.float32)
        np.savez(folder / "noise.npz", x=noise)
        return _saved(quantise_model(model, folder / "noise.npz", lockstep.Options(), Quiet()).model, folder / f"{model.stem}_int8.onnx")
    return make


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


_MOMENTUM = Optimiser(momentum=0.9)
FP32 = {
    "mlp": built_in("mlp"), "cnn": built_in("cnn"), "dscnn": stored("mlperf_kws_dscnn_bn.onnx"),
    "resnet8": stored("mlperf_ic_resnet8_bn.onnx"),
    "mobilenet": stored("mlperf_vww_mbv1_025_bn.onnx"),
}
WORKLOADS = (
    *(Workload(name, made, large=name == "mobilenet") for name, made in FP32.items()),
    *(Workload(f"{name}-int8", quantised(made), large=name == "mobilenet") for name, made in FP32.items()),
    *(Workload(f"{name}-integer", quantised(FP32[name]), {"grad": "int8"}) for name in ("mlp", "cnn", "dscnn")),
    Workload("autoencoder", stored("mlperf_ad_fcae_bn.onnx"), {"loss": "mse"}),
    Workload("mcunet-int8", stored("mcunet5fps_10cls_qdq_int8.onnx"), {"int8_input": True, "scheme": "last:20"}, large=True),
    Workload("cnn-momentum", FP32["cnn"], {"optimiser": _MOMENTUM}),
    Workload("cnn-adam", FP32["cnn"], {"optimiser": Optimiser(kind="adam")}),
    Workload("cnn-batchnorm", FP32["dscnn"], {"fold_batchnorm": False}),
    Workload("cnn-int8-momentum", quantised(FP32["cnn"]), {"optimiser": _MOMENTUM}),
    *(Workload(f"cnn-int8-{rounding}", quantised(FP32["cnn"]), {"optimiser": Optimiser(rounding=rounding)})
      for rounding in ("nearest", "residual", "master")),
)


def measured(workload: Workload, board: str) -> dict[str, Any]:
    """What `measure` found, now or in an earlier run."""
    kept = OUT / board / f"{workload.name}.json"
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as folder:
            compiled = compile_model(workload.model(Path(folder)), Options(board=board, exact_seconds=0, **workload.options))
            found = measure(compiled, Path(folder) / "project")
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps(found))
    loaded: dict[str, Any] = json.loads(kept.read_text())
    return loaded


def fitted(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Factors of kernels, none below 0, that make the squared relative errors of the calls least; likewise of code."""
    calls = [call for one in found for call in one["calls"]]
    columns = {name: i for i, name in enumerate(sorted({(w["kernel"], term) for c in calls for w in c["works"] for term in w["amounts"]}))}
    matrix = np.zeros((len(calls), len(columns)))
    for row, call in zip(matrix, calls, strict=True):
        for work in call["works"]:
            for term, amount in work["amounts"].items():
                row[columns[work["kernel"], term]] += amount
    factors = []
    for unit in UNITS:
        target = np.array([call[unit] for call in calls], float)
        weight = 1 / (target + NOISE)
        factors.append(nnls(matrix * weight[:, None], target * weight, maxiter=100 * len(columns))[0])
    kernels: dict[str, dict[str, list[float]]] = {kernel: {} for kernel, _ in columns}
    for (kernel, term), i in columns.items():
        if any(each[i] > 0 for each in factors):
            kernels[kernel][term] = [float(f"{each[i]:.4g}") for each in factors]
    sources = np.array([[one["code"][sort] for sort in SORTS] for one in found], float)
    code_bytes = np.array([one["code_bytes"] for one in found], float)
    sizes_of = nnls(sources / code_bytes[:, None], np.ones(len(found)))[0]
    return {"code": {sort: round(n) for sort, n in zip(SORTS, sizes_of, strict=True)}, "kernels": kernels}


def guards(board: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Factors of a look at floats, and bytes of code that guards take: all of it without any look, and each look."""
    sizes_, code_bytes, looks_ = (-1, 256, 1024), [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("mlp", "dscnn"):
            options = Options(board=board, exact_seconds=0)
            each = {kind: compile_model(FP32[name](folder), replace(options, guards=kind)) for kind in ("none", "rest")}
            flash = {}
            for kind, compiled in each.items():
                write(compiled, folder / name / kind)
                flash[kind] = sizes(build(folder / name / kind, load_board(board))).flash_bytes
            code_bytes.append(flash["rest"] - flash["none"])
            text = each["rest"].files[f"{each['rest'].program.name}.c"]
            looks_.append(sum(map(text.count, ("tt_beyond(", "measure(ctx, "))))
        text = _LOOKS.format(name="mlp", NAME="MLP", sizes=", ".join(map(str, sizes_)), count=len(sizes_))
        (folder / "mlp" / "rest" / "app" / "main.c").write_text(text)
        nothing, few, many = counts(build(folder / "mlp" / "rest", load_board(board)), load_board(board), len(sizes_))
    each_float = [(b - a) / (sizes_[2] - sizes_[1]) for a, b in zip(few, many, strict=True)]
    call = [max(0.0, taken - none - sizes_[1] * one) for taken, none, one in zip(few, nothing, each_float, strict=True)]
    a_look = (code_bytes[1] - code_bytes[0]) / (looks_[1] - looks_[0])
    factors = {"call": [float(f"{n:.4g}") for n in call], "in": [float(f"{n:.4g}") for n in each_float]}
    return {GUARD: factors}, {"guards": round(code_bytes[0] - looks_[0] * a_look), "look": round(a_look)}


def estimated(table: Table, calls: Sequence[dict[str, Any]], unit: str) -> float:
    return sum(float(getattr(table.of(Work(**work)), unit)) for call in calls for work in call["works"])


def fit_board(board: str) -> dict[str, Any]:
    """The table of a board's core, and how good it is."""
    found = {}
    for workload in WORKLOADS:
        if board == LARGE_ON or not workload.large:
            try:
                found[workload.name] = measured(workload, board)
                print(f"{board:<11} {workload.name} is counted", end="\r", file=sys.stderr, flush=True)
            except DoesNotFit as error:
                print(f"{board:<11} {workload.name:<20} is left out: {error.sentences[0]}", flush=True)
    made = fitted(list(found.values()))
    for name, one in found.items():
        unseen = Table(fitted([other for key, other in found.items() if key != name]))
        errors = ""
        for unit in UNITS:
            count = sum(call[unit] for call in one["calls"])
            seen, not_seen = (estimated(table, one["calls"], unit) / count - 1 for table in (Table(made), unseen))
            errors += f"{count:>13,} {unit} {seen:+7.1%}, unseen {not_seen:+7.1%}   "
        print(f"{board:<11} {name:<20}{errors}code {Table(made).code_bytes(one['code']) / one['code_bytes'] - 1:+7.1%}", flush=True)
    return made


def main() -> int:
    if not MODELS.is_dir():
        print(f"{os.path.relpath(MODELS)} is absent: nothing to measure.")
        return 0
    kept = json.loads(TABLE.read_text(encoding="utf-8"))["cores"]
    only, boards = sys.argv[1:2] == ["--guards"], [word for word in sys.argv[1:] if word != "--guards"]
    for board in boards or BOARDS:
        core = load_board(board).core
        made = kept[core] if only else {"board": board, **fit_board(board)}
        factors, code_bytes = guards(board)
        print(f"{board:<11} guards: {factors[GUARD]}, {code_bytes}", flush=True)
        kernels = {**made["kernels"], **factors}
        kept[core] = {**made, "code": {**made["code"], **code_bytes}, "kernels": dict(sorted(kernels.items()))}
    parts = [
        f' "{core}": {{"board": "{made["board"]}", "code": {json.dumps(made["code"])}, "kernels": {{\n'
        + ",\n".join(f"  {json.dumps(kernel)}: {json.dumps(factors)}" for kernel, factors in made["kernels"].items()) + "\n }}"
        for core, made in kept.items()
    ]
    write_text(TABLE, f'{{"command": "{COMMAND}", "cores": {{\n' + ",\n".join(parts) + "\n}}\n")
    print(f"\n{os.path.relpath(TABLE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
