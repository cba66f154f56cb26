# SPDX-License-Identifier: Apache-2.0
"""From a planned program to C: kernels, the project's own files, golden vectors."""
