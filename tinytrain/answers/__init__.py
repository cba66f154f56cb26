# SPDX-License-Identifier: Apache-2.0
"""Answers to what a person asks before and after compiling: what fits where, why it was compiled like that, what differs."""
