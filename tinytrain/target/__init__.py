# SPDX-License-Identifier: Apache-2.0
"""What a board is: its data, its tool chain, building, sizes."""
