# SPDX-License-Identifier: Apache-2.0
"""A compiled project on disk: its manifest, its firmware, its device."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytrain.errors import OutputError
from tinytrain.ir.types import Array
from tinytrain.target.board import Board, load_board

if TYPE_CHECKING:
    from tinytrain.device.session import Session
    from tinytrain.target.size import Sizes

_NEEDED = ("name", "board", "model_sha256", "input", "output", "target", "parameters", "optimiser")


@dataclass(frozen=True)
class Project:
    """A folder that `tinytrain compile` made."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Project:
        """Raises OutputError where the folder is none of ours."""
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            message = f"{folder} is not a compiled project: it has no readable manifest.json."
            raise OutputError(message, hint="Make one with `tinytrain compile`.") from error
        if not isinstance(manifest, dict) or (missing := [key for key in _NEEDED if key not in manifest]):
            lacks = f"lacks {', '.join(missing)}" if isinstance(manifest, dict) else "is no JSON object"
            message = f"{folder / 'manifest.json'} {lacks}; expected the manifest of a compiled project."
            raise OutputError(message, hint="Make the project again with `tinytrain compile`.")
        return cls(folder, manifest)

    @cached_property
    def board(self) -> Board:
        return load_board(str(self.manifest["board"]))

    @cached_property
    def initializers(self) -> dict[str, Array]:
        """The weights that the model was compiled with, in ONNX layout, by name; of integers also the reals that they stand for."""
        import onnx

        from tinytrain.frontend.stored import stored_tensors

        return stored_tensors(onnx.load(self.folder / "model.onnx"))

    @cached_property
    def _elf(self) -> Path:
        from tinytrain.target.build import build

        return build(self.folder, self.board)

    def elf(self) -> Path:
        """The firmware, built if need be. Raises ToolError without a compiler, DoesNotFit where the linker says so."""
        return self._elf

    def sizes(self) -> Sizes:
        from tinytrain.target.size import sizes

        return sizes(self.elf())

    def session(self, *, icount: bool = False, timeout: float = 60.0) -> Session:
        """Start the device (host twin or emulator) and greet it. `icount` makes its counter count instructions."""
        from tinytrain.device.session import open_session

        self.elf()
        return open_session(self.folder, self.board, icount=icount, timeout=timeout)
