# SPDX-License-Identifier: Apache-2.0
"""What the classes of a model are called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinytrain.errors import ModelError
from tinytrain.ir.graph import Graph

if TYPE_CHECKING:
    import onnx

    from tinytrain.frontend.prepare import Prepared


def class_names(given: Sequence[str], prepared: Prepared, infer: Graph) -> tuple[str, ...]:
    """Those given, or of the file's metadata `classes`, where the model has one output with as many elements; () where nobody knows.

    Raises ModelError where the given ones are not as many.
    """
    count = infer.outputs[0].type.numel if len(infer.outputs) == 1 else 0
    if given and len(given) != count:
        has = f"one output of {count} elements" if count else f"{len(infer.outputs)} outputs"
        raise ModelError(f"{prepared.path}: --classes names {len(given)} classes; the model has {has}.", hint="Name each element once.")
    found = tuple(given) or _in_metadata(prepared.model)
    return found if len(found) == count else ()


def _in_metadata(model: onnx.ModelProto) -> tuple[str, ...]:
    """A JSON list of texts, or texts with commas between."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "classes"), "")
    try:
        listed = json.loads(text)
    except ValueError:
        listed = text.split(",")
    texts = listed if isinstance(listed, list) and all(isinstance(name, str) for name in listed) else []
    return tuple(name.strip() for name in texts if name.strip())
