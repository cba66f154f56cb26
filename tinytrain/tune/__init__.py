# SPDX-License-Identifier: Apache-2.0
"""Tuning: every way in which a model's kernels could be made for a board is run there, checked and counted."""
