/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that are stored as fp16 and trained as fp32: half + rest · unit, where a unit is 2^-16 of the distance between halves there.
 * With |rest| at most half of that distance, all 24 bits of a normal float have room; near zero it is a multiple of 2^-40. */
#ifndef TT_MASTER_H
#define TT_MASTER_H

#include "tt_tile.h"
#include <stdint.h>

/* 2^-16 of the distance from a half to the next; halves below 2^-14 are as far apart as those of 2^-14. */
static inline uint32_t tt_unit_bits(float number)
{
    const uint32_t exponent = tt_to_bits(number) & UINT32_C(0x7F800000), least = UINT32_C(113) << 23;
    return (exponent < least ? least : exponent) - (UINT32_C(26) << 23);
}

/* number / unit: exact, for both are floats and the unit is a power of two. */
static inline float tt_in_units(float number, uint32_t unit_bits)
{
    return number * tt_from_bits((UINT32_C(254) << 23) - unit_bits);
}

static inline float tt_master(float half, int32_t rest)
{
    return TT_MADD(half, (float)rest, tt_from_bits(tt_unit_bits(half))); /* the product is exact */
}

/* What rounding to a half has left out; nothing behind the largest half, and of what is not a number. */
static inline int32_t tt_rest(float master, float half)
{
    const float rest = tt_in_units(master - half, tt_unit_bits(half));
    if (__builtin_fabsf(rest) < 32768.0f) {
        return (int32_t)rest;
    }
    return rest > 0.0f ? 32767 : rest < 0.0f ? -32767 : 0;
}

/* The half below or above, by 16 random bits: in the mean the number itself. */
static inline float tt_half_stochastic(float number, uint32_t word)
{
    const uint32_t unit_bits = tt_unit_bits(number);
    const float units = tt_in_units(number, unit_bits);
    if (!(units > -134217728.0f && units < 134217728.0f)) {
        return number; /* infinite, or not a number */
    }
    const int32_t dithered = (int32_t)units + (int32_t)(word >> 16);
    return (float)(dithered >> 16) * tt_from_bits(unit_bits + (UINT32_C(16) << 23));
}

#endif
