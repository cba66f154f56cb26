# SPDX-License-Identifier: Apache-2.0
"""From an ONNX file to our Graph, from data files to samples, and from learned weights back to ONNX."""
