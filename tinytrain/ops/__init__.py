# SPDX-License-Identifier: Apache-2.0
"""One module per family of ops. Every module here is imported by `tinytrain.ir.op.load_ops`."""
