/* SPDX-License-Identifier: Apache-2.0 */
/* x^y in plain fp32, as tt_math.h: the same bits on every target, no libm, nothing fused. */
#ifndef TT_POWER_H
#define TT_POWER_H

#include "tt_math.h"

/* Whole y up to 64 by products, with an error of up to |y| units in the last place; else e^(y ln x), of 2 + |y ln x| of them.
 * A negative x has powers of whole y only; others are NaN. */
static inline float tt_powf(float x, float y)
{
    const float size = y < 0.0f ? -y : y;
    const int whole = size >= 0x1p+24f || size == (float)(int32_t)(size < 0x1p+24f ? size : 0.0f);
    if (whole && size <= 64.0f) {
        float power = 1.0f, square = x;
        for (int32_t n = (int32_t)size; n > 0; n >>= 1) {
            power = (n & 1) != 0 ? power * square : power;
            square *= square;
        }
        return y < 0.0f ? 1.0f / power : power;
    }
    const int odd = whole && size < 0x1p+24f && ((int32_t)size & 1) != 0;
    if (x < 0.0f && !whole) {
        return tt_from_bits(UINT32_C(0x7FC00000));
    }
    const float magnitude = x < 0.0f ? -x : x;
    const float power = magnitude == 1.0f ? magnitude : tt_expf(y * tt_logf(magnitude));
    return x < 0.0f && odd ? -power : power;
}

#endif
