/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that are stored as fp16 and trained as fp32: a half, and how many floats further its master lies. They are counted after both were
 * moved away from zero by 2^-16: from there a half has at most 2^14 floats to where the next half begins, so that 16 bits hold all numbers of
 * them, and small halves need no way of their own. What is moved is rounded: a master is within 2^-24 · (|number| + 2^-16) of the number, and
 * from 2^8 to 2^9, where a float is moved by half of the distance to the next, within twice as much. */
#ifndef TT_MASTER_H
#define TT_MASTER_H

#include "tt_tile.h"
#include <stdint.h>

/* ±2^-16, with the sign of the number. */
static inline float tt_away(float number)
{
    return __builtin_copysignf(0x1p-16f, number);
}

/* The half nearest to the master of a number: of the number itself it could be another one, and a step without a gradient would change it. */
static inline float tt_master_half(float number)
{
    return tt_nearest_half((number + tt_away(number)) - tt_away(number));
}

static inline float tt_master(float half, int32_t rest)
{
    return tt_from_bits(tt_to_bits(half + tt_away(half)) + (uint32_t)rest) - tt_away(half);
}

/* Behind the largest half it has no meaning: the half is infinite. */
static inline int16_t tt_rest(float number, float half)
{
    return (int16_t)(tt_to_bits(number + tt_away(number)) - tt_to_bits(half + tt_away(number)));
}

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
