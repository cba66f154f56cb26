# SPDX-License-Identifier: Apache-2.0
"""An ONNX model, and how it is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tinytrain.answers.nearest import suggesting
from tinytrain.api.build import Build, Scratch
from tinytrain.api.by_samples import balanced, check_samples, decided_by_samples, found_rate
from tinytrain.api.choices import BALANCED, DEFAULTS, STEADY, Choices, Placing, Quantising, check_fp16, is_word, options_of
from tinytrain.api.values import checked
from tinytrain.atomic import write_bytes
from tinytrain.compiler import compile_model
from tinytrain.data.file import DataFile
from tinytrain.data.given import Arrays, File, Given, Pair, Samples, Source, source_of, source_of_both
from tinytrain.emit.fit import check_budget
from tinytrain.errors import TinytrainError
from tinytrain.gradient.methods import method
from tinytrain.learn.find_rate import RateCurve, RateSearch
from tinytrain.origins import Origin, origin
from tinytrain.report.live import Progress, Quiet
from tinytrain.schemes.scheme import Scheme
from tinytrain.search.fill import filled
from tinytrain.search.ranks import is_ranked, ranked

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from tinytrain.quantise.ranges import Method
    from tinytrain.quantise.report import Report


class Model:
    """An ONNX file. Made by `load` or `from_torch`."""

    def __init__(self, path: str | Path, *, keeps: object = None) -> None:
        """`keeps` is what must not go before this."""
        self.path = Path(path)
        self._keeps = keeps
        self._origins: tuple[Origin, ...] = ()            # files that its own was made from

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r})"

    def compile(
        self, board: str = "host", scheme: str | Scheme | Sequence[str | Scheme] = "full", *,
        calibration: Pair | Samples | Given | None = None, tolerance: float | None = None, budget: int | None = None, cores: int = 1,
        store: int = 0, classes: Sequence[str] = (), old: Pair | File | None = None, elastic: float | None = None,
        progress: Progress | None = None, **choices: Unpack[Choices],
    ) -> Build:
        """Compile for a board; `scheme` is what is trained, or several of which the device starts with the first.

        `budget` is the RAM that it may take at most, in bytes; last:auto and spread:auto fill it, or without it the board.

        `dtype` is fp32, fp16 or int8. int8 quantises the model by `calibration`: samples x, or x and y, or a data file. With fp16 x and y
        choose what stays fp32: where fp16 would take more than the part `tolerance` of results or gradients away. They also decide
        `lr="auto"`, as `find_rate` does, `class_weights="balanced"`, and with method lowrank:auto the ranks of its adapters, as many as
        `budget` has room for.
        `old` are samples of before: what the model knows of them pulls weights to where they start, by the strength `elastic`.
        `cores` of the board share a step; the firmware keeps what it learns in flash after each `store` samples; `classes` are names.
        Raises TinytrainError subclasses: ModelError, SchemeError, BoardError, DataError, DoesNotFit.
        """
        place = checked(Placing, {"budget": budget, "cores": cores, "store": store, "tolerance": tolerance, "elastic": elastic})
        budget, cores, store, tolerance, elastic = place.values()
        if (old is None) != (elastic is None):
            given_one, other = ("--elastic", "--old") if old is None else ("--old", "--elastic")
            raise TinytrainError(f"{given_one} has no effect without {other}.", hint="Leave it out, or give both.")
        source = None if calibration is None else source_of_both(calibration)
        schemes = [scheme] if isinstance(scheme, (str, Scheme)) else scheme
        progress = progress or Quiet()
        check_samples(choices, source)
        open_yet = decided_by_samples(choices)
        if choices.get("dtype") == "int8":
            if source is None:
                message = "--dtype int8 needs calibration: samples that show the range of each tensor."
                raise TinytrainError(message, hint="Give calibration=x.")
            if tolerance is not None:
                raise TinytrainError("--fp16-tolerance has no effect with --dtype int8; expected --dtype fp16.", hint="Leave it out.")
            given: Choices = {**choices, "dtype": "fp32"}
            asked = options_of(board, schemes, {**given, **open_yet})  # says what is wrong with them before that work
            quantised = self.quantise(source, shapes=choices.get("shapes", {}), progress=progress)
            place.pop("tolerance")
            samples = source if open_yet or is_ranked(asked) else None
            return quantised.compile(board, scheme, **place, calibration=samples, classes=classes, old=old, progress=progress, **given)
        asked = replace(options_of(board, schemes, {**choices, **open_yet}), cores=cores, store=store, classes=tuple(classes))
        if "class_weights" in open_yet:
            assert source is not None, "check_samples has seen to that"
            asked = balanced(self.path, asked, source, progress)
        decided = bool(open_yet) or is_ranked(asked)
        asked = ranked(self.path, source, asked, budget, progress)
        options = filled(self.path, asked, budget)
        if source is not None and not (decided and options.dtype != "fp16" and tolerance is None):
            from tinytrain.search.precision import TOLERANCE, calibrated

            check_fp16("--fp16-tolerance" if decided else "--data", options.dtype)
            options = calibrated(self.path, source, options, TOLERANCE if tolerance is None else tolerance, progress)
            options = filled(self.path, replace(options, scheme=asked.scheme), budget)
        elif tolerance is not None:
            check_fp16("--fp16-tolerance", options.dtype)
            raise TinytrainError("--fp16-tolerance has no effect without --data.", hint="Leave it out, or give both.")
        before = None if old is None else source_of_both(old)
        if before is not None and elastic is not None:
            from tinytrain.learn.elastic import consolidated

            options = consolidated(self.path, before, options, elastic, progress)
        if "lr" in open_yet:
            assert source is not None, "check_samples has seen to that"
            curve = found_rate(self.path, options, source, RateSearch(), progress)
            progress.say(f"rate       {curve.suggestion:g} suits, by trainings of {curve.steps:,} steps (`tinytrain lr` shows more)")
            if curve.doubt:
                progress.say(f"warning    {curve.doubt}")
            settled = options_of(board, schemes, {**choices, **open_yet, "lr": curve.suggestion})
            options = replace(options, optimiser=settled.optimiser)
        options = replace(options, origins=(*options.origins, *self._origins, *_origins("calibration", source), *_origins("old", before)))
        with suggesting(self.path, options, progress):
            compiled = compile_model(self.path, options)
        if budget is not None:
            check_budget(compiled.program, compiled.plan, compiled.board, budget)
        return Build(compiled, keeps=self)

    def find_rate(
        self, x: Samples, y: Arrays | None = None, board: str = "host", scheme: str | Scheme = "full", *, budget: int | None = None,
        search: RateSearch | None = None, progress: Progress | None = None, **choices: Unpack[Choices],
    ) -> RateCurve:
        """Which learning rate suits these samples: short trainings at each of several, on the twin of the board, from the model's weights.

        Trainings are with a falling rate, as `Device.train` does it. What is chosen besides is as in `compile`. Raises DataError,
        LearningError where no rate makes the model better, ToolError without a C compiler.
        """
        unasked = next((name for name in ("lr", *STEADY) if choices.get(name) not in (None, DEFAULTS.get(name))), None)
        if unasked:
            raise TinytrainError(f"{unasked} has no effect where the learning rate is looked for.", hint="Leave it out.")
        source, progress = source_of(x, y), progress or Quiet()
        check_samples(choices, source)
        options = options_of(board, [scheme], {**choices, **decided_by_samples(choices)})
        if is_word(choices.get("class_weights"), BALANCED):
            options = balanced(self.path, options, source, progress)
        if method(options.method).chooses:
            message = f"--method {options.method} chooses among several schemes as it learns; a rate is looked for with one."
            raise TinytrainError(message, hint="Leave it out, or let `tinytrain compile --lr auto --data` find the rate of all of them.")
        options = filled(self.path, ranked(self.path, source, options, budget, progress), budget)
        return found_rate(self.path, options, source, search or RateSearch(), progress)

    def quantise(
        self, calibration: Pair | Samples | Given, *, method: Method = "minmax", percentile: float = 99.99, equalise: bool = False,
        bias_correction: bool = True, adaround: bool = False, per_tensor: bool = False, bits: Literal["8", "4", "mixed"] = "8",
        flash_budget: int | None = None, samples: int = 256, shapes: Mapping[str, tuple[int, ...]] | None = None,
        progress: Progress | None = None,
    ) -> QuantisedModel:
        """The model in int8 (QDQ), by so many `samples` of calibration; its `report` says what each layer lost.

        `tinytrain quantize --help` says what the rest is for. Raises ModelError, DataError.
        """
        from tinytrain.quantise.convert import quantise_model
        from tinytrain.quantise.lockstep import Options

        given = {
            "method": method, "percentile": percentile, "equalise": equalise, "bias_correction": bias_correction, "adaround": adaround,
            "per_tensor": per_tensor, "bits": bits, "flash_budget": flash_budget, "samples": samples,
        }
        options = Options(**checked(Quantising, given), shapes=dict(shapes or {}))
        source = source_of_both(calibration)
        made = quantise_model(self.path, source, options, progress or Quiet())
        scratch = Scratch()
        quantised = QuantisedModel(scratch.path / self.path.name, made.report, keeps=scratch)
        write_bytes(quantised.path, made.model.SerializeToString())
        quantised._origins = (origin("model before quantisation", self.path), *_origins("calibration", source))
        return quantised


class QuantisedModel(Model):
    """A model in int8; `report` says what each layer lost."""

    def __init__(self, path: Path, report: Report, *, keeps: object) -> None:
        super().__init__(path, keeps=keeps)
        self.report = report


def _origins(kind: str, source: Source | None) -> tuple[Origin, ...]:
    """The file that samples came from; none of arrays."""
    return () if source is None or isinstance(source, Given) else (origin(kind, DataFile.of(source).path),)


def load(path: str | Path) -> Model:
    """An ONNX file. Raises ModelError where it is none."""
    from tinytrain.frontend.prepare import read_model

    read_model(Path(path))
    return Model(path)
