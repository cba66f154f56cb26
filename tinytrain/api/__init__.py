# SPDX-License-Identifier: Apache-2.0
"""What a program does with tinytrain: `import tinytrain as tt`. The command line is made of it (docs/python.md)."""
