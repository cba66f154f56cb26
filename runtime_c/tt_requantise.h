/* SPDX-License-Identifier: Apache-2.0 */
/* From one integer scale to another, and from fp32 to integers: the same bits as tinytrain/ops/quantize.py on every target. */
#ifndef TT_REQUANTISE_H
#define TT_REQUANTISE_H

#include <stdint.h>

static inline int32_t tt_clamp(int32_t q, int32_t low, int32_t high)
{
    return q < low ? low : q > high ? high : q;
}

/* A number that no compiler knows. */
static inline int32_t tt_hidden(int32_t number)
{
    __asm volatile("" : "+r"(number));
    return number;
}

/* A place that no compiler knows: what is loaded from it is not kept for somebody who loads it again, and not taken from what was stored. */
static inline const void *tt_hidden_at(const void *place)
{
    __asm volatile("" : "+r"(place));
    return place;
}

/* v / 2^(shift + 1), rounded down, within [low, high]: its last bit goes for nothing where an Arm core saturates to int8. */
static inline int32_t tt_clamp_shifted(int32_t v, int32_t shift, int32_t low, int32_t high)
{
#if defined(__ARM_FEATURE_SAT) && defined(__OPTIMIZE__)
    if (__builtin_constant_p(low) && __builtin_constant_p(high) && low == -128 && high == 127) {
        int32_t q;
        __asm("ssat %0, #8, %1, asr #1" : "=r"(q) : "r"(v >> shift));
        return q;
    }
#endif
    return tt_clamp(v >> (shift + 1), low, high);
}

/* The upper word of a·b, plus c. */
static inline int32_t tt_upper_product(int32_t a, int32_t b, int32_t c)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t sum;
    __asm("smmla %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
#else
    return (int32_t)((int64_t)a * b >> 32) + c;
#endif
}

/* tt_requantise where the lower word of the product counts too, or the zero point has no room in the upper one: seldom, and long. */
__attribute__((cold, noinline, unused)) static int32_t tt_requantise_wide(
    int32_t acc, int32_t m, int32_t s, int32_t offset, int32_t low, int32_t high)
{
    const int64_t halves = (int64_t)acc * m >> (s - 1);
    const int32_t near = halves < -4096 ? -4096 : halves > 4096 ? 4096 : (int32_t)halves; /* beyond all bounds and zero points */
    return tt_clamp((near + offset) >> 1, low, high);
}

/* zero_point + round(acc·m / 2^s) within [low, high]; m in [0, 2^31), s in 1..62. A half is rounded up, toward +infinity:
 * (acc·m + 2^(s-1)) >> s = ((acc·m >> (s-1)) + 1) >> 1. */
static inline int32_t tt_requantise(int32_t acc, int32_t m, int32_t s, int32_t zero_point, int32_t low, int32_t high)
{
    const int32_t shift = s - 33, offset = 2 * zero_point + 1;
    return shift >= 0 && shift < 22 ? tt_clamp_shifted(tt_upper_product(acc, m, offset * (1 << shift)), shift, low, high)
                                    : tt_requantise_wide(acc, m, s, offset, low, high);
}

/* How tt_requantise shifts for s, by signed amounts as vector units take them: the sum to the left, then the upper word of the product. */
static inline int32_t tt_left(int32_t s)
{
    return s < 33 ? 33 - s : 0;
}

static inline int32_t tt_right(int32_t s)
{
    return s < 33 ? -1 : 32 - s;
}

/* zero_point + round(x / scale) within [low, high]; a half is rounded to the even neighbour, NaN counts as 0. */
static inline int32_t tt_quantise(float x, float scale, int32_t zero_point, int32_t low, int32_t high)
{
    const float least = (float)(low - zero_point), most = (float)(high - zero_point);
    const float none = least > 0.0f ? least : most < 0.0f ? most : 0.0f;
    float v = x / scale;
    v = v >= most ? most : v <= least ? least : v == v ? v : none;
    /* 1.5·2^23: a sum of that size has no room for a fraction, and is itself rounded to even */
    return (int32_t)((v + 0x1.8p23f) - 0x1.8p23f) + zero_point;
}

#endif
