# SPDX-License-Identifier: Apache-2.0
"""An ONNX model, and how it is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tinytrain.answers.nearest import suggesting
from tinytrain.api.build import Build, Scratch
from tinytrain.api.choices import Choices, Placing, Quantising, check_fp16, options_of
from tinytrain.api.values import checked
from tinytrain.atomic import write_bytes
from tinytrain.compiler import compile_model
from tinytrain.data.file import DataFile
from tinytrain.data.given import File, Given, Pair, Samples, Source, source_of_both
from tinytrain.emit.fit import check_budget
from tinytrain.errors import TinytrainError
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
        choose what stays fp32: where fp16 would take more than the part `tolerance` of results or gradients away. With method lowrank:auto
        they choose the ranks of its adapters, as many as `budget` has room for.
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
        if choices.get("dtype") == "int8":
            if source is None:
                message = "--dtype int8 needs calibration: samples that show the range of each tensor."
                raise TinytrainError(message, hint="Give calibration=x.")
            if tolerance is not None:
                raise TinytrainError("--fp16-tolerance has no effect with --dtype int8; expected --dtype fp16.", hint="Leave it out.")
            given: Choices = {**choices, "dtype": "fp32"}
            asked = options_of(board, schemes, given)     # says what is wrong with them before that work
            quantised = self.quantise(source, shapes=choices.get("shapes", {}), progress=progress)
            place.pop("tolerance")
            samples = calibration if is_ranked(asked) else None
            return quantised.compile(board, scheme, **place, calibration=samples, classes=classes, old=old, progress=progress, **given)
        asked = replace(options_of(board, schemes, choices), cores=cores, store=store, classes=tuple(classes))
        ranks = is_ranked(asked)
        asked = ranked(self.path, source, asked, budget, progress or Quiet())
        options = filled(self.path, asked, budget)
        if source is not None and not (ranks and options.dtype == "fp32" and tolerance is None):
            from tinytrain.search.precision import TOLERANCE, calibrated

            check_fp16("--data", options.dtype)
            options = calibrated(self.path, source, options, TOLERANCE if tolerance is None else tolerance, progress or Quiet())
            options = filled(self.path, replace(options, scheme=asked.scheme), budget)
        elif tolerance is not None:
            raise TinytrainError("--fp16-tolerance has no effect without --data.", hint="Leave it out, or give both.")
        before = None if old is None else source_of_both(old)
        if before is not None and elastic is not None:
            from tinytrain.learn.elastic import consolidated

            options = consolidated(self.path, before, options, elastic, progress or Quiet())
        options = replace(options, origins=(*options.origins, *self._origins, *_origins("calibration", source), *_origins("old", before)))
        with suggesting(self.path, options, progress or Quiet()):
            compiled = compile_model(self.path, options)
        if budget is not None:
            check_budget(compiled.program, compiled.plan, compiled.board, budget)
        return Build(compiled, keeps=self)

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
