# SPDX-License-Identifier: Apache-2.0
"""`tinytrain verify`: the gradients of a user's own model, in float64, against central differences or an independent oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytrain import passes
from tinytrain.compiler import Options, chosen_scheme, load_model
from tinytrain.errors import ModelError
from tinytrain.gradient.objective import aims_of, with_loss
from tinytrain.gradient.train_step import inference
from tinytrain.ir.graph import Graph
from tinytrain.ir.op import Declined
from tinytrain.ir.types import S32, Array, Value
from tinytrain.schemes.choose import choose
from tinytrain.verify.checks import GradientError, check_graph, model_gradients
from tinytrain.verify.left_out import LeftOut, left_out

LIMITS = {"differences": 1e-6, "tvm": 1e-5}               # largest error relative to the largest entry of a tensor


@dataclass(frozen=True)
class Report:
    """`declined` says why the oracle could not be asked; then nothing was compared and the check has not passed.

    `left_out` are the stored tensors that a scheme which trains all does not train.
    """

    oracle: str
    errors: tuple[GradientError, ...]
    declined: str | None = None
    left_out: tuple[LeftOut, ...] = ()

    @property
    def equal(self) -> bool:
        return all(e.compared and e.relative <= LIMITS[self.oracle] for e in self.errors)

    @property
    def missed(self) -> tuple[LeftOut, ...]:
        return tuple(one for one in self.left_out if one.missed)

    @property
    def passed(self) -> bool:
        return self.declined is None and self.equal and not self.missed

    @property
    def text(self) -> str:
        others = [f"{one.name:<32} {one.text}" for one in self.left_out]
        if self.declined:
            return "\n".join([*others, f"not compared: {self.declined}"])
        lines = [f"{e.name:<32} {e.relative:9.1e}   {e.compared:,} of {e.sampled:,} entries compared" for e in self.errors]
        verdict = f"{'equal' if self.equal else 'DIFFERENT'}: limit {LIMITS[self.oracle]:.0e} against {self.oracle}"
        missed = f"LEFT OUT: the scheme says that it trains all, and misses {', '.join(one.name for one in self.missed)}"
        return "\n".join([*lines, *others, verdict, *([missed] if self.missed else [])])


def verify_model(path: Path, options: Options, oracle: str, samples: int, seed: int = 0) -> Report:
    """Compare d loss / d parameter for each parameter of the scheme, on one seeded sample. Raises TinytrainError subclasses."""
    if options.objective is None or options.loss is None:
        raise ModelError(f"{path}: there are no gradients without a loss.", hint="Give --loss ce (or ce-soft, mse, bce).")
    prepared, imported = load_model(path, options)
    forward = inference(passes.run(imported.graph, passes.FORWARD))
    if any(v.type.quant for node in forward.nodes for v in node.outputs):
        message = f"{path} is an int8 model: rounding has no derivative to compare with, its gradients pass straight through."
        raise ModelError(message, hint="Verify the fp32 model that it was made from.")
    frozen = imported.constants.frozen(forward)
    scheme = chosen_scheme(options.scheme, forward, frozen, options)
    moved, trained = choose(scheme, forward)
    wanted = list(trained)
    names = {v.source.initializer for v in wanted if v.source is not None}
    decided = {one.name: one.why for one in frozen if one.decided}
    others = tuple(left_out(prepared.model, names, decided, seed)) if scheme.preset == "full" else ()
    graph, _, loss = with_loss(moved, aims_of(options.objective, moved))
    rng = np.random.default_rng(seed)
    sample, target = _inputs(rng, graph)
    if oracle == "differences":
        return Report(oracle, tuple(check_graph(graph, loss, wanted, [sample, target], seed, samples)), left_out=others)

    from tinytrain.verify.oracle import tvm_gradients

    batch = np.expand_dims(sample.transpose(np.argsort(imported.input.perm)), 0).reshape(imported.input.onnx_shape)
    params = {v.source.initializer: v.source.to_onnx(v.data) for v in wanted if v.source is not None and v.data is not None}
    if options.loss_options:
        return Report(oracle, (), f"TVM's losses have no {', '.join(options.loss_options)}", others)
    answer = tvm_gradients(prepared.model, options.loss, batch, target, params)
    if isinstance(answer, Declined):
        return Report(oracle, (), answer.why, others)
    ours = {v: np.zeros(v.shape) for v in wanted} | model_gradients(graph, loss, wanted, [sample, target])
    return Report(oracle, tuple(_compared(v, ours[v], answer[1]) for v in wanted), left_out=others)


def _inputs(rng: np.random.Generator, graph: Graph) -> tuple[Array, Array]:
    sample, target = graph.inputs
    x = rng.normal(size=sample.shape)
    if target.type.dtype is S32:
        return x, np.zeros(target.shape, np.int32)
    soft = rng.random(target.shape)
    return x, soft / soft.sum()


def _compared(value: Value, ours: Array, theirs: dict[str, Array]) -> GradientError:
    assert value.source is not None, f"{value!r} has no initializer"
    mine, other = value.source.to_onnx(ours), theirs[value.source.initializer]
    scale = max(float(np.abs(other).max(initial=0.0)), 1e-12)
    return GradientError(value.name, float(np.abs(mine - other).max(initial=0.0)) / scale, mine.size, mine.size)
