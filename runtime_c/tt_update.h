/* SPDX-License-Identifier: Apache-2.0 */
/* Updates of integer weights by fp32 steps: the same bits as tinytrain/ops/optimiser_int.py on every target. */
#ifndef TT_UPDATE_H
#define TT_UPDATE_H

#include <stdint.h>

/* |d|, at most `limit`; 0 where d is not a number. What follows can then be converted to an integer. */
static inline float tt_step_size(float d, float limit)
{
    const float a = __builtin_fabsf(d);
    return a <= limit ? a : a > limit ? limit : 0.0f;
}

/* n with the sign of d, by its bit: no comparison, and no branch. */
static inline int32_t tt_signed(int32_t n, float d)
{
    int32_t sign;
    __builtin_memcpy(&sign, &d, sizeof sign);
    sign >>= 31;
    return (n ^ sign) - sign;
}

/* d as an integer, away from zero with the chance of the fraction: in the mean it is d. `word` is 32 random bits. */
static inline int32_t tt_round_stochastic(float d, float limit, uint32_t word)
{
    const float a = tt_step_size(d, limit);
    const int32_t n = (int32_t)a;
    const uint32_t chance = (uint32_t)((a - (float)n) * 0x1p32f);
    return tt_signed(n + (word < chance), d);
}

/* d as an integer, a half away from zero. */
static inline int32_t tt_round_nearest(float d, float limit)
{
    const float a = tt_step_size(d, limit);
    const int32_t n = (int32_t)a;
    return tt_signed(n + (a - (float)n >= 0.5f), d);
}

/* The new weight without its fraction, within ±bound; the old one where the new one is not a number. */
static inline int32_t tt_truncated(float to, float bound, int32_t old)
{
    const int32_t n = (int32_t)tt_step_size(to, bound);
    return to < 0.0f ? -n : to >= 0.0f ? n : old;
}

/* w − step within ±bound, 32 bits: for int8 weights. */
static inline int32_t tt_moved(int32_t w, int32_t step, int32_t bound)
{
    int32_t to = w - step;
#if defined(__ARM_FEATURE_SAT)
    if (__builtin_constant_p(bound) && bound == 127) {
        __asm("ssat %0, #8, %0" : "+r"(to));
        return to < -127 ? -127 : to;
    }
#endif
    return to < -bound ? -bound : to > bound ? bound : to;
}

/* A weight of fewer bits. */
static inline int32_t tt_within(int32_t w, int32_t low, int32_t high)
{
    return w < low ? low : w > high ? high : w;
}

/* The same in 64 bits, for int32 biases: one that lies beyond a bound is not pulled back to it. */
static inline int64_t tt_moved_wide(int64_t w, int64_t step, int64_t bound)
{
    const int64_t to = w - step, low = w < -bound ? w : -bound, high = w > bound ? w : bound;
    return to < low ? low : to > high ? high : to;
}

#endif
