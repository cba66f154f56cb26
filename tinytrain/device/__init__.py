# SPDX-License-Identifier: Apache-2.0
"""Talking to firmware: one protocol for the host twin, emulated boards and real ones."""
