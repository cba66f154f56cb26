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

/* What is added to a number, so that a half has 13 bits less than a float: ±2^-14 to those below that, whose halves are as far apart as there. */
static inline float tt_lift(float number)
{
    return __builtin_fabsf(number) < 0x1p-14f ? __builtin_copysignf(0x1p-14f, number) : 0.0f;
}

/* Without its last 13 bits, after as many random ones were added. */
static inline float tt_drawn(float lifted, uint32_t word)
{
    return tt_from_bits((tt_to_bits(lifted) + (word >> 19)) & ~UINT32_C(0x1FFF));
}

/* The half below or above: in the mean the number itself. */
static inline float tt_half_stochastic(float number, uint32_t word)
{
    return tt_drawn(number + tt_lift(number), word) - tt_lift(number);
}

#endif
