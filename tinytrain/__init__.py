# SPDX-License-Identifier: Apache-2.0
"""tinytrain: compile an ONNX model into C firmware that trains on a microcontroller.

    import tinytrain as tt

    build = tt.load("model.onnx").compile(board="netduinoplus2", scheme="last:2")
    with build.twin() as device:
        history = device.train(x, y, epochs=5)
        device.save("learned.onnx")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinytrain.api.build import Build as Build
    from tinytrain.api.build import open as open
    from tinytrain.api.device import Device as Device
    from tinytrain.api.from_torch import from_torch as from_torch
    from tinytrain.api.history import History as History
    from tinytrain.api.model import Model as Model
    from tinytrain.api.model import load as load
    from tinytrain.api.plan import Plan as Plan
    from tinytrain.api.to_torch import to_torch as to_torch
    from tinytrain.data.file import data_file as data_file
    from tinytrain.errors import TinytrainError as TinytrainError

__version__ = "0.1.0"

# Name → the module that has it, which is imported when the name is first asked for.
_ELSEWHERE = {
    "Build": "api.build", "Device": "api.device", "History": "api.history", "Model": "api.model",
    "Plan": "api.plan", "TinytrainError": "errors", "data_file": "data.file", "from_torch": "api.from_torch", "load": "api.model",
    "open": "api.build", "to_torch": "api.to_torch",
}
__all__ = ["__version__", *_ELSEWHERE]


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module 'tinytrain' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tinytrain.{_ELSEWHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
