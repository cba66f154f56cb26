/* SPDX-License-Identifier: Apache-2.0 */
/* RISC-V with single-precision registers. */
#ifndef TT_SIMD_RVF_H
#define TT_SIMD_RVF_H

#include "tt_simd_scalar.h"

#define tt_v_rvf tt_v_scalar
#define tt_zero_rvf tt_zero_scalar
#define tt_load_rvf tt_load_scalar
#define tt_store_rvf tt_store_scalar
#define tt_madd_rvf tt_madd_scalar

TT_TILES(rvf, 4, 1, , float, TT_PLAIN)
TT_TILES(rvf, 4, 2, , float, TT_PLAIN)
TT_TILES(rvf, 4, 3, , float, TT_PLAIN)
TT_TILES(rvf, 4, 4, , float, TT_PLAIN)
TT_TILES(rvf, 4, 5, , float, TT_PLAIN)
TT_TILES(rvf, 4, 6, , float, TT_PLAIN)
TT_TILES(rvf, 4, 1, _half, tt_half, tt_half_to_float)
TT_TILES(rvf, 4, 2, _half, tt_half, tt_half_to_float)
TT_TILES(rvf, 4, 3, _half, tt_half, tt_half_to_float)
TT_TILES(rvf, 4, 4, _half, tt_half, tt_half_to_float)
TT_TILES(rvf, 4, 5, _half, tt_half, tt_half_to_float)
TT_TILES(rvf, 4, 6, _half, tt_half, tt_half_to_float)

#endif
