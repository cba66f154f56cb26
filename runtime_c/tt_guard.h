/* SPDX-License-Identifier: Apache-2.0 */
/* What a training step looks at before it changes anything. */
#ifndef TT_GUARD_H
#define TT_GUARD_H

#include "tt_half.h"

/* Squares have no sign, so that a sum of them that is below 2^2e has none that is not, in whatever order and rounding: where there is hardware
 * for floats, that finds the largest with the fewest instructions. */
#if defined(__ARM_FP) || defined(__riscv_flen) || defined(__SSE__) || defined(__ARM_NEON)
#if !defined(TT_SOFT_FLOATS)
#define TT_SQUARES
#endif
#endif

#if defined(TT_SQUARES)
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE & 2
#include <arm_mve.h>

__attribute__((noinline, unused)) static float tt_squares(const float *from, int32_t n)
{
    float32x4_t sums = vdupq_n_f32(0.0f), more = sums;
    for (; n >= 16; n -= 16, from += 16) {
        for (int32_t i = 0; i < 16; i += 8) {
            const float32x4_t x = vldrwq_f32(from + i), y = vldrwq_f32(from + i + 4);
            sums = vfmaq_f32(sums, x, x);
            more = vfmaq_f32(more, y, y);
        }
    }
    for (; n > 0; n -= 4, from += 4) {
        const mve_pred16_t left = vctp32q((uint32_t)n);
        const float32x4_t x = vldrwq_z_f32(from, left);
        sums = vfmaq_f32(sums, x, x);
    }
    sums = vaddq_f32(sums, more);
    return vgetq_lane_f32(sums, 0) + vgetq_lane_f32(sums, 1) + (vgetq_lane_f32(sums, 2) + vgetq_lane_f32(sums, 3));
}
#elif defined(__ARM_FP) && defined(__thumb__) && defined(__OPTIMIZE__)
#define TT_ADD_SQUARES(a, b, c, d) \
    "vfma.f32 s0, " a ", " a "\n\tvfma.f32 s1, " b ", " b "\n\tvfma.f32 s2, " c ", " c "\n\tvfma.f32 s3, " d ", " d "\n\t"

/* Sixteen floats by one VLDM. */
__attribute__((noinline, unused)) static float tt_squares(const float *from, int32_t n)
{
    register float sum __asm("s0") = 0.0f;
    __asm("vmov.f32 s1, s0\n\tvmov.f32 s2, s0\n\tvmov.f32 s3, s0\n\t"
          "subs %[n], %[n], #16\n\t"
          "blt 2f\n"
          "1:\n\tvldmia %[from]!, {s4-s19}\n\t" TT_ADD_SQUARES("s4", "s5", "s6", "s7") TT_ADD_SQUARES("s8", "s9", "s10", "s11")
          TT_ADD_SQUARES("s12", "s13", "s14", "s15") TT_ADD_SQUARES("s16", "s17", "s18", "s19")
          "subs %[n], %[n], #16\n\t"
          "bge 1b\n"
          "2:\n\tadds %[n], %[n], #16\n\t"
          "beq 4f\n"
          "3:\n\tvldmia %[from]!, {s4}\n\t"
          "subs %[n], %[n], #1\n\t"
          "vfma.f32 s0, s4, s4\n\t"
          "bne 3b\n"
          "4:\n\tvadd.f32 s0, s0, s1\n\tvadd.f32 s2, s2, s3\n\tvadd.f32 s0, s0, s2"
          : [sum] "+t"(sum), [from] "+r"(from), [n] "+r"(n)
          :
          : "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "s16", "s17", "s18", "s19", "cc",
            "memory");
    return sum;
}
#elif defined(__riscv_flen) && !defined(__riscv_vector)
#define TT_ADD_SQUARE(sum, at) __asm("fmadd.s %0, %1, %1, %0" : "+f"(sum) : "f"(from[at])) /* fmaf would be one of a C library */

__attribute__((noinline, unused)) static float tt_squares(const float *from, int32_t n)
{
    float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
    for (; n >= 16; n -= 16, from += 16) {
        for (int32_t i = 0; i < 16; i += 4) {
            TT_ADD_SQUARE(a, i);
            TT_ADD_SQUARE(b, i + 1);
            TT_ADD_SQUARE(c, i + 2);
            TT_ADD_SQUARE(d, i + 3);
        }
    }
    for (; n > 0; --n, ++from) {
        TT_ADD_SQUARE(a, 0);
    }
    return a + b + (c + d);
}
#else
typedef float tt_four __attribute__((vector_size(16), aligned(4)));

__attribute__((noinline, unused)) static float tt_squares(const float *from, int32_t n)
{
    tt_four sums = {0.0f, 0.0f, 0.0f, 0.0f}, more = sums;
    for (; n >= 8; n -= 8, from += 8) {
        tt_four x, y;
        __builtin_memcpy(&x, __builtin_assume_aligned(from, 4), sizeof x);
        __builtin_memcpy(&y, __builtin_assume_aligned(from + 4, 4), sizeof y);
        sums += x * x;
        more += y * y;
    }
    sums += more;
    float sum = sums[0] + sums[1] + (sums[2] + sums[3]);
    for (; n > 0; --n, ++from) {
        sum += *from * *from;
    }
    return sum;
}
#endif
#endif

/* The bits of the largest magnitude; those of infinity are above all numbers, and what is not a number is above those. */
__attribute__((noinline, unused)) static uint32_t tt_largest(const float *from, int32_t n)
{
    uint32_t most = 0;
    for (int32_t i = 0; i < n; ++i) {
        const uint32_t magnitude = tt_to_bits(from[i]) & UINT32_C(0x7FFFFFFF);
        most = most < magnitude ? magnitude : most;
    }
    return most;
}

/* Whether the magnitude of any of n floats is 2^e or more, which has these bits, or not a number. */
__attribute__((noinline, unused)) static int tt_beyond(const float *from, int32_t n, uint32_t limit)
{
#if defined(TT_SQUARES)
    const float most = tt_from_bits(limit);
    if (tt_squares(from, n) < most * most) {
        return 0;
    }
#endif
    return tt_largest(from, n) >= limit;
}

/* What the sum of the squares of n floats is below: this power of two, 0 at least, and more than any limit where that is infinite or not a
 * number. Without hardware for floats all count as large as the largest. */
__attribute__((noinline, unused)) static int32_t tt_size(const float *from, int32_t n)
{
#if defined(TT_SQUARES)
    const uint32_t exponent = tt_to_bits(tt_squares(from, n)) >> 23 & UINT32_C(0xFF);
    const int32_t size = exponent == 255 ? 1 << 10 : (int32_t)exponent - 126;
#else
    const int32_t size = 2 * ((int32_t)(tt_largest(from, n) >> 23) - 126) + 32 - __builtin_clz((uint32_t)n);
#endif
    return size > 0 ? size : 0;
}

#endif
