# SPDX-License-Identifier: Apache-2.0
"""Long work on a device: epochs, evaluation, inference."""
