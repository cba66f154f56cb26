/* SPDX-License-Identifier: Apache-2.0 */
/* Helium: four floats or sixteen int8 in a register, eight registers. Floats are computed as Arm's vector units do, whatever FPSCR says:
 * subnormal numbers are zeros, those that go in and those that come out, and there is one NaN. In C for every other target, same bits. */
#ifndef TT_SIMD_MVE_H
#define TT_SIMD_MVE_H

#include "tt_half.h"
#include <stdint.h>

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3
#include <arm_mve.h>

/* In assembly stands what gcc 12 has wrong: it takes a predicated store for a whole one, and drops what was stored before. */

typedef float32x4_t tt_v_mve;

static inline tt_v_mve tt_zero_mve(void)
{
    return vdupq_n_f32(0.0f);
}

static inline tt_v_mve tt_load_mve(const float *from)
{
    return vldrwq_f32(from);
}

/* The first n of four; the others are 0. */
static inline tt_v_mve tt_load_n_mve(const float *from, uint32_t n)
{
    tt_v_mve v;
    __asm("vctp.32 %2\n\tvpst\n\tvldrwt.u32 %q0, [%1]" : "=w"(v) : "r"(from), "r"(n) : "memory", "p0");
    return v;
}

static inline tt_v_mve tt_load_s8_mve(const int8_t *from)
{
    return vcvtq_f32_s32(vldrbq_s32(from));
}

static inline void tt_store_mve(float *to, tt_v_mve v)
{
    vstrwq_f32(to, v);
}

static inline void tt_store_n_mve(float *to, tt_v_mve v, uint32_t n)
{
    __asm volatile("vctp.32 %2\n\tvpst\n\tvstrwt.32 %q1, [%0]" : : "r"(to), "w"(v), "r"(n) : "memory", "p0");
}

/* acc + v·s, rounded once */
static inline tt_v_mve tt_madd_mve(tt_v_mve acc, tt_v_mve v, float s)
{
    return vfmaq_n_f32(acc, v, s);
}

static inline tt_v_mve tt_madd_lanes_mve(tt_v_mve acc, tt_v_mve a, tt_v_mve b)
{
    return vfmaq_f32(acc, a, b);
}
#else
typedef float tt_v_mve __attribute__((vector_size(16), aligned(4)));
typedef int32_t tt_v_bits_mve __attribute__((vector_size(16), aligned(4)));

static inline tt_v_mve tt_zero_mve(void)
{
    return (tt_v_mve){ 0.0f, 0.0f, 0.0f, 0.0f };
}

static inline tt_v_mve tt_load_mve(const float *from)
{
    return *(const tt_v_mve *)(const void *)from;
}

static inline tt_v_mve tt_load_n_mve(const float *from, uint32_t n)
{
    return (tt_v_mve){ n > 0 ? from[0] : 0.0f, n > 1 ? from[1] : 0.0f, n > 2 ? from[2] : 0.0f, n > 3 ? from[3] : 0.0f };
}

static inline tt_v_mve tt_load_s8_mve(const int8_t *from)
{
    return (tt_v_mve){ from[0], from[1], from[2], from[3] };
}

static inline void tt_store_mve(float *to, tt_v_mve v)
{
    *(tt_v_mve *)(void *)to = v;
}

static inline void tt_store_n_mve(float *to, tt_v_mve v, uint32_t n)
{
    for (uint32_t i = 0; i < 4 && i < n; ++i) {
        to[i] = v[i];
    }
}

/* Lanes with an exponent of 0 lose all but their sign. */
static inline tt_v_mve tt_flushed_mve(tt_v_mve v)
{
    const tt_v_bits_mve bits = (tt_v_bits_mve)v;
    return (tt_v_mve)(bits & (((bits & 0x7F800000) != 0) | INT32_MIN));
}

/* What a result of fmaf becomes: it is flushed if it was below 2^-126 before it was rounded. Only one that was rounded to just that needs
 * a closer look: a·b is exact in double precision, and the error of the sum is found by Knuth's two-sum. */
static inline float tt_settled_mve(float r, float acc, float a, float b)
{
    const uint32_t bits = tt_to_bits(r), magnitude = bits & UINT32_C(0x7FFFFFFF);
    if (magnitude > UINT32_C(0x7F800000)) {
        return tt_from_bits(UINT32_C(0x7FC00000));
    }
    if (magnitude == UINT32_C(0x00800000)) {
        const double product = (double)a * (double)b, sum = product + (double)acc;
        const double part = sum - product, error = (product - (sum - part)) + ((double)acc - part);
        const double least = r < 0.0f ? -0x1p-126 : 0x1p-126;
        const double beyond = r < 0.0f ? (least - sum) - error : (sum - least) + error;
        return beyond < 0.0 ? tt_from_bits(bits & UINT32_C(0x80000000)) : r;
    }
    return magnitude < UINT32_C(0x00800000) ? tt_from_bits(bits & UINT32_C(0x80000000)) : r;
}

static inline tt_v_mve tt_madd_lanes_mve(tt_v_mve acc, tt_v_mve a, tt_v_mve b)
{
    acc = tt_flushed_mve(acc);
    a = tt_flushed_mve(a);
    b = tt_flushed_mve(b);
    tt_v_mve r = { __builtin_fmaf(a[0], b[0], acc[0]), __builtin_fmaf(a[1], b[1], acc[1]), __builtin_fmaf(a[2], b[2], acc[2]),
                   __builtin_fmaf(a[3], b[3], acc[3]) };
    for (int i = 0; i < 4; ++i) {
        r[i] = tt_settled_mve(r[i], acc[i], a[i], b[i]);
    }
    return r;
}

static inline tt_v_mve tt_madd_mve(tt_v_mve acc, tt_v_mve v, float s)
{
    return tt_madd_lanes_mve(acc, v, (tt_v_mve){ s, s, s, s });
}
#endif

/* One by one: binutils 2.40 encodes other registers than those that stand in VCVTB of vectors. */
static inline tt_v_mve tt_load_half_mve(const tt_half *from)
{
    const float values[4] = { tt_half_to_float(from[0]), tt_half_to_float(from[1]), tt_half_to_float(from[2]), tt_half_to_float(from[3]) };
    return tt_load_mve(values);
}

#endif
