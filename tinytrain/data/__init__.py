# SPDX-License-Identifier: Apache-2.0
"""Files of samples: npz, npy, csv, images."""
