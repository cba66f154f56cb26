/* SPDX-License-Identifier: Apache-2.0 */
/* From one integer scale to another, and from fp32 to integers: the same bits as tinytrain/ops/quantize.py on every target. */
#ifndef TT_REQUANTISE_H
#define TT_REQUANTISE_H

#include <stdint.h>

static inline int32_t tt_clamp(int32_t q, int32_t low, int32_t high)
{
    return q < low ? low : q > high ? high : q;
}

/* zero_point + round(acc·m / 2^s) within [low, high]; m in [0, 2^31), s in 1..62. A half is rounded up, toward +infinity. */
static inline int32_t tt_requantise(int32_t acc, int32_t m, int32_t s, int32_t zero_point, int32_t low, int32_t high)
{
    const int64_t product = (int64_t)acc * m;
    int32_t q;
    if (s > 32) {
        /* what is added and what is kept lie in the upper word */
        q = ((int32_t)(product >> 32) + (int32_t)(UINT32_C(1) << (s - 33))) >> (s - 32);
    } else {
        const int64_t rounded = (product + (int64_t)(UINT64_C(1) << (s - 1))) >> s;
        q = rounded < -1024 ? -1024 : rounded > 1024 ? 1024 : (int32_t)rounded; /* beyond all bounds, whatever the zero point */
    }
    return tt_clamp(q + zero_point, low, high);
}

/* zero_point + round(x / scale) within [low, high]; a half is rounded to the even neighbour, NaN is the zero point. */
static inline int32_t tt_quantise(float x, float scale, int32_t zero_point, int32_t low, int32_t high)
{
    const float least = (float)(low - zero_point), most = (float)(high - zero_point);
    float v = x / scale;
    v = v >= most ? most : v <= least ? least : v == v ? v : 0.0f;
    /* 1.5·2^23: a sum of that size has no room for a fraction, and is itself rounded to even */
    return (int32_t)((v + 0x1.8p23f) - 0x1.8p23f) + zero_point;
}

#endif
