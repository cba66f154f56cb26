/* SPDX-License-Identifier: Apache-2.0 */
/* What a training step looks at before it changes anything. */
#ifndef TT_GUARD_H
#define TT_GUARD_H

#include "tt_half.h"

#if (defined(__ARM_FP) && !defined(__ARM_FEATURE_MVE)) || (defined(__riscv_flen) && !defined(__riscv_vector))
#define TT_SCALAR_FLOATS
#endif

#if defined(__FP_FAST_FMAF)
#define TT_SQUARE(sum, x) __builtin_fmaf(x, x, sum)
#else
#define TT_SQUARE(sum, x) ((sum) + (x) * (x))
#endif

/* Whether the magnitude of any of n floats is 2^e or more, which has these bits, or not a number.
 *
 * Squares have no sign, so that a sum of them that is below 2^2e has none that is not, in whatever order and rounding: a scalar float unit
 * finds that out with the fewest instructions. Otherwise bits decide: an element that is large enough carries into the sign. */
__attribute__((noinline, unused)) static int tt_beyond(const float *from, int32_t n, uint32_t limit)
{
    const int32_t whole = n - n % 4;
#if defined(TT_SCALAR_FLOATS)
    float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
    for (int32_t i = 0; i < whole; i += 4) {
        a = TT_SQUARE(a, from[i]);
        b = TT_SQUARE(b, from[i + 1]);
        c = TT_SQUARE(c, from[i + 2]);
        d = TT_SQUARE(d, from[i + 3]);
    }
    for (int32_t i = whole; i < n; ++i) {
        a = TT_SQUARE(a, from[i]);
    }
    const float most = tt_from_bits(limit);
    if (a + b + (c + d) < most * most) {
        return 0;
    }
#endif
    const uint32_t magnitude = UINT32_C(0x7FFFFFFF), carry = UINT32_C(0x80000000) - limit;
    uint32_t found = 0;
    tt_words side = {0, 0, 0, 0};
    for (int32_t i = 0; i < whole; i += 4) {
        side |= (tt_words_at(from + i) & magnitude) + carry;
    }
    for (int32_t i = whole; i < n; ++i) {
        found |= (tt_to_bits(from[i]) & magnitude) + carry;
    }
    return (found | side[0] | side[1] | side[2] | side[3]) >> 31 != 0;
}

#endif
