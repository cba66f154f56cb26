# SPDX-License-Identifier: Apache-2.0
"""tinytrain: compile an ONNX model into C firmware that trains on a microcontroller."""

__version__ = "0.1.0"
