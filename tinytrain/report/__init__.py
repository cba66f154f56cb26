# SPDX-License-Identifier: Apache-2.0
"""Numbers gathered once; views of them as text and progress bars."""
