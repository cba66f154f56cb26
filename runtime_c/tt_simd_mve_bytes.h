/* SPDX-License-Identifier: Apache-2.0 */
/* What Helium does with sixteen int8 beside products: words of tt_simd_mve.h, which includes this. */
#ifndef TT_SIMD_MVE_BYTES_H
#define TT_SIMD_MVE_BYTES_H

#include <stdint.h>

/* Bit i is set where low < from[i] < high; of n elements, up to sixteen, in as many bytes as they need: the spare bits are 0. */
static inline void tt_inside_mve(uint8_t *bits, const int8_t *from, int32_t low, int32_t high, uint32_t n)
{
    uint32_t inside;
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3
    tt_b_mve v;
    __asm volatile("vctp.8 %5\n\tvpst\n\tvldrbt.u8 %q1, [%2]\n\tvpstt\n\tvcmpt.s8 gt, %q1, %3\n\tvcmpt.s8 lt, %q1, %4\n\tvmrs %0, p0"
                   : "=r"(inside), "=&w"(v)
                   : "r"(from), "r"(low), "r"(high), "r"(n)
                   : "memory", "p0");
#else
    inside = 0;
    for (uint32_t i = 0; i < n; ++i) {
        inside |= (uint32_t)(low < from[i] && from[i] < high) << i;
    }
#endif
    bits[0] = (uint8_t)(inside & 0xFFu);
    if (n > 8) {
        bits[1] = (uint8_t)(inside >> 8);
    }
}

#endif
