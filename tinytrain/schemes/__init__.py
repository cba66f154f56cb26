# SPDX-License-Identifier: Apache-2.0
"""Which tensors of a model are updated."""
