# SPDX-License-Identifier: Apache-2.0
"""The intermediate representation: typed values, ops with typed attributes, straight-line graphs."""
