# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation: from a float32 ONNX model and calibration samples to an int8 one in QDQ form."""
