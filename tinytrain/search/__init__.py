# SPDX-License-Identifier: Apache-2.0
"""Which scheme: contributions, costs, exact and evolutionary search, sweeps."""
