/* SPDX-License-Identifier: Apache-2.0 */
/* Helium: four floats or sixteen int8 in a register, eight registers. Floats are computed as Arm's vector units do, whatever FPSCR says:
 * subnormal numbers are zeros, those that go in and those that come out, and there is one NaN. In C for every other target, same bits. */
#ifndef TT_SIMD_MVE_H
#define TT_SIMD_MVE_H

#include "tt_dsp.h"
#include "tt_requantise.h"
#include "tt_tile.h"
#include <stdint.h>

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3
#include <arm_mve.h>

/* Loops in assembly take all registers: not without optimisation. */
#if defined(__OPTIMIZE__)
#define TT_MVE_LOOPS 1
#else
#define TT_MVE_LOOPS 0
#endif

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
    __asm volatile("vctp.32 %2\n\tvpst\n\tvldrwt.u32 %q0, [%1]" : "=w"(v) : "r"(from), "r"(n) : "memory", "p0");
    return v;
}

/* from[i] − zero_point as floats */
static inline tt_v_mve tt_load_s8_mve(const int8_t *from, int32_t zero_point)
{
    const int32x4_t x = vldrbq_s32(from);
    return vcvtq_f32_s32(zero_point ? vsubq_n_s32(x, zero_point) : x);
}

static inline tt_v_mve tt_load_s8_n_mve(const int8_t *from, int32_t zero_point, uint32_t n)
{
    int32x4_t x;
    __asm volatile("vctp.32 %2\n\tvpst\n\tvldrbt.s32 %q0, [%1]" : "=w"(x) : "l"(from), "r"(n) : "memory", "p0");
    return vcvtq_f32_s32(vsubq_n_s32(x, zero_point));
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

static inline tt_v_mve tt_splat_mve(float s)
{
    return vdupq_n_f32(s);
}

static inline tt_v_mve tt_add_mve(tt_v_mve a, tt_v_mve b)
{
    return vaddq_f32(a, b);
}

static inline tt_v_mve tt_sub_mve(tt_v_mve a, tt_v_mve b)
{
    return vsubq_f32(a, b);
}

static inline tt_v_mve tt_mul_mve(tt_v_mve a, tt_v_mve b)
{
    return vmulq_f32(a, b);
}

/* a where x > y, else b */
static inline tt_v_mve tt_where_mve(tt_v_mve x, tt_v_mve y, tt_v_mve a, tt_v_mve b)
{
    tt_v_mve v; /* gcc 12 sends each predicate through a register */
    __asm("vcmp.f32 gt, %q1, %q2\n\tvpsel %q0, %q3, %q4" : "=w"(v) : "w"(x), "w"(y), "w"(a), "w"(b) : "p0");
    return v;
}

/* Integers: sixteen int8 to multiply, four int32 to requantise. */
typedef int8x16_t tt_b_mve;
typedef int32x4_t tt_i_mve;

static inline tt_b_mve tt_b_load_mve(const int8_t *from)
{
    return vldrbq_s8(from);
}

/* The first n of sixteen; the others are 0. */
static inline tt_b_mve tt_b_load_n_mve(const int8_t *from, uint32_t n)
{
    tt_b_mve b;
    __asm volatile("vctp.8 %2\n\tvpst\n\tvldrbt.u8 %q0, [%1]" : "=w"(b) : "r"(from), "r"(n) : "memory", "p0");
    return b;
}

static inline tt_i_mve tt_i_all_mve(int32_t value)
{
    return vdupq_n_s32(value);
}

static inline tt_i_mve tt_i_load_mve(const int32_t *from)
{
    return vldrwq_s32(from);
}

static inline tt_i_mve tt_i_load_n_mve(const int32_t *from, uint32_t n)
{
    tt_i_mve i;
    __asm volatile("vctp.32 %2\n\tvpst\n\tvldrwt.u32 %q0, [%1]" : "=w"(i) : "r"(from), "r"(n) : "memory", "p0");
    return i;
}

static inline void tt_i_store_mve(int32_t *to, tt_i_mve i)
{
    vstrwq_s32(to, i);
}

static inline tt_i_mve tt_i_add_mve(tt_i_mve a, tt_i_mve b)
{
    return vaddq_s32(a, b);
}

/* Of whole numbers. */
static inline tt_i_mve tt_i_of_mve(tt_v_mve v)
{
    return vcvtq_s32_f32(v);
}

/* i within [low, high]; only the lowest byte of each lane counts. */
static inline tt_i_mve tt_i_within_mve(tt_i_mve i, int32_t low, int32_t high)
{
    if (low == -128 && high == 127) {
        __asm("vqmovnb.s32 %q0, %q0\n\tvqmovnb.s16 %q0, %q0" : "+w"(i));
        return i;
    }
    return vminq_s32(vmaxq_s32(i, vdupq_n_s32(low)), vdupq_n_s32(high));
}

/* As tt_requantise, for m in [2^30, 2^31) or 0, and tt_left and tt_right of s. With s = 33 the upper word of the product has the half below its last bit; a smaller s
 * shifts the sum to the left first: where that saturates, the result is beyond all bounds. For int8: as tt_i_within_mve. */
static inline tt_i_mve tt_i_requantise_by_mve(tt_i_mve acc, tt_i_mve m, tt_i_mve left, tt_i_mve right, int32_t zero_point, int32_t low,
                                              int32_t high)
{
    return tt_i_within_mve(vaddq_n_s32(vrshlq_s32(vmulhq_s32(vqshlq_s32(acc, left), m), right), zero_point), low, high);
}

static inline void tt_i_store_s8_mve(int8_t *to, tt_i_mve i)
{
    vstrbq_s32(to, i);
}

static inline void tt_i_store_n_s8_mve(int8_t *to, tt_i_mve i, uint32_t n)
{
    __asm volatile("vctp.32 %2\n\tvpst\n\tvstrbt.32 %q1, [%0]" : : "l"(to), "w"(i), "r"(n) : "memory", "p0");
}
#else
#define TT_MVE_LOOPS 0

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

static inline tt_v_mve tt_load_s8_n_mve(const int8_t *from, int32_t zero_point, uint32_t n)
{
    tt_v_mve v;
    for (uint32_t i = 0; i < 4; ++i) {
        v[i] = (float)((i < n ? from[i] : 0) - zero_point);
    }
    return v;
}

static inline tt_v_mve tt_load_s8_mve(const int8_t *from, int32_t zero_point)
{
    return tt_load_s8_n_mve(from, zero_point, 4);
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

static inline tt_v_mve tt_splat_mve(float s)
{
    return (tt_v_mve){ s, s, s, s };
}

static inline tt_v_mve tt_madd_mve(tt_v_mve acc, tt_v_mve v, float s)
{
    return tt_madd_lanes_mve(acc, v, tt_splat_mve(s));
}

/* A sum and a product are a fused one with 1 and with −0. */
static inline tt_v_mve tt_add_mve(tt_v_mve a, tt_v_mve b)
{
    return tt_madd_mve(a, b, 1.0f);
}

static inline tt_v_mve tt_sub_mve(tt_v_mve a, tt_v_mve b)
{
    return tt_madd_mve(a, b, -1.0f);
}

static inline tt_v_mve tt_mul_mve(tt_v_mve a, tt_v_mve b)
{
    return tt_madd_lanes_mve(tt_splat_mve(-0.0f), a, b);
}

static inline tt_v_mve tt_where_mve(tt_v_mve x, tt_v_mve y, tt_v_mve a, tt_v_mve b)
{
    const tt_v_bits_mve above = tt_flushed_mve(x) > tt_flushed_mve(y);
    return (tt_v_mve)(((tt_v_bits_mve)a & above) | ((tt_v_bits_mve)b & ~above));
}

typedef struct {
    int8_t at[16];
} tt_b_mve;

typedef struct {
    int32_t at[4];
} tt_i_mve;

static inline tt_b_mve tt_b_load_n_mve(const int8_t *from, uint32_t n)
{
    tt_b_mve b = { { 0 } };
    __builtin_memcpy(b.at, from, n);
    return b;
}

static inline tt_b_mve tt_b_load_mve(const int8_t *from)
{
    return tt_b_load_n_mve(from, 16);
}

static inline tt_i_mve tt_i_all_mve(int32_t value)
{
    return (tt_i_mve){ { value, value, value, value } };
}

static inline tt_i_mve tt_i_load_n_mve(const int32_t *from, uint32_t n)
{
    tt_i_mve i = { { 0 } };
    __builtin_memcpy(i.at, from, 4 * n);
    return i;
}

static inline tt_i_mve tt_i_load_mve(const int32_t *from)
{
    return tt_i_load_n_mve(from, 4);
}

static inline void tt_i_store_mve(int32_t *to, tt_i_mve i)
{
    __builtin_memcpy(to, i.at, sizeof i.at);
}

static inline tt_i_mve tt_i_add_mve(tt_i_mve a, tt_i_mve b)
{
    for (int i = 0; i < 4; ++i) {
        a.at[i] = (int32_t)((uint32_t)a.at[i] + (uint32_t)b.at[i]);
    }
    return a;
}

static inline tt_i_mve tt_i_of_mve(tt_v_mve v)
{
    return (tt_i_mve){ { (int32_t)v[0], (int32_t)v[1], (int32_t)v[2], (int32_t)v[3] } };
}

static inline tt_i_mve tt_i_requantise_by_mve(tt_i_mve acc, tt_i_mve m, tt_i_mve left, tt_i_mve right, int32_t zero_point, int32_t low,
                                              int32_t high)
{
    for (int i = 0; i < 4; ++i) {
        const int32_t s = 32 - right.at[i] - left.at[i];
        acc.at[i] = m.at[i] == 0 ? tt_clamp(zero_point, low, high) : tt_requantise(acc.at[i], m.at[i], s, zero_point, low, high);
    }
    return acc;
}

static inline void tt_i_store_n_s8_mve(int8_t *to, tt_i_mve i, uint32_t n)
{
    for (uint32_t v = 0; v < n && v < 4; ++v) {
        to[v] = (int8_t)i.at[v];
    }
}

static inline void tt_i_store_s8_mve(int8_t *to, tt_i_mve i)
{
    tt_i_store_n_s8_mve(to, i, 4);
}
#endif

#include "tt_simd_mve_bytes.h"
#include "tt_simd_mve_integer.h"
#include "tt_simd_mve_master.h"
#include "tt_simd_mve_tiles.h"

#endif
