# SPDX-License-Identifier: Apache-2.0
"""The page of compiled projects: one self-contained HTML file, or served on this computer with a socket to a device."""
