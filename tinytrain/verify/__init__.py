# SPDX-License-Identifier: Apache-2.0
"""What is right: the NumPy reference, gradient checks, an independent oracle."""
