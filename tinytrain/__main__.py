# SPDX-License-Identifier: Apache-2.0
"""`python -m tinytrain`: the command line."""

from tinytrain.cli.main import main

main(prog_name="tinytrain")
