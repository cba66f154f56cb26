# SPDX-License-Identifier: Apache-2.0
"""From a forward graph to a training program: autodiff, update rules, integer forms."""
