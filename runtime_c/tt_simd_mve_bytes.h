/* SPDX-License-Identifier: Apache-2.0 */
/* What Helium does with sixteen int8, and bits of floats: words of tt_simd_mve.h, which includes this. */
#ifndef TT_SIMD_MVE_BYTES_H
#define TT_SIMD_MVE_BYTES_H

#include <stdint.h>

/* sum + Σ a·b, and sum + Σ a, without regard to overflow */
static inline int32_t tt_b_dot_mve(int32_t sum, tt_b_mve a, tt_b_mve b)
{
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3
    return vmladavaq_s8(sum, a, b);
#else
    int32_t products = 0;
    for (int i = 0; i < 16; ++i) {
        products += a.at[i] * b.at[i];
    }
    return (int32_t)((uint32_t)sum + (uint32_t)products);
#endif
}

static inline int32_t tt_b_sum_mve(int32_t sum, tt_b_mve a)
{
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3
    return vaddvaq_s8(sum, a);
#else
    int32_t all = 0;
    for (int i = 0; i < 16; ++i) {
        all += a.at[i];
    }
    return (int32_t)((uint32_t)sum + (uint32_t)all);
#endif
}

/* Bit i is set where low < from[i] < high; of n elements, up to sixteen, in as many bytes as they need: the spare bits are 0. */
static inline void tt_inside_mve(uint8_t *bits, const int8_t *from, int32_t low, int32_t high, uint32_t n)
{
    uint32_t inside;
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3
    tt_b_mve v;
    if (n == 16) {
        __asm volatile("vldrb.u8 %q1, [%2]\n\tvcmp.s8 gt, %q1, %3\n\tvpst\n\tvcmpt.s8 lt, %q1, %4\n\tvmrs %0, p0"
                       : "=r"(inside), "=&w"(v)
                       : "r"(from), "r"(low), "r"(high)
                       : "memory", "p0");
        const uint16_t whole = (uint16_t)inside;
        __builtin_memcpy(bits, &whole, sizeof whole);
        return;
    }
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

/* The same of eight floats; an infinite `high` is no bound. */
static inline void tt_passes_mve(uint8_t *bits, const float *from, float low, float high)
{
    uint32_t byte = 0;
    for (int32_t i = 0; i < 2; ++i) {
        const tt_v_mve v = tt_load_mve(from + 4 * i);
#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3
        const tt_i_mve first = { 1, 2, 4, 8 }, second = { 16, 32, 64, 128 }, each = i == 0 ? first : second;
        if (high < __builtin_inff()) {
            __asm("vcmp.f32 gt, %q1, %2\n\tvpst\n\tvcmpt.f32 lt, %q1, %3\n\tvpst\n\tvaddvat.u32 %0, %q4"
                  : "+Te"(byte) : "w"(v), "r"(low), "r"(high), "w"(each) : "p0");
        } else {
            __asm("vcmp.f32 gt, %q1, %2\n\tvpst\n\tvaddvat.u32 %0, %q3" : "+Te"(byte) : "w"(v), "r"(low), "w"(each) : "p0");
        }
#else
        const tt_v_mve x = tt_flushed_mve(v), least = tt_flushed_mve(tt_splat_mve(low)), most = tt_flushed_mve(tt_splat_mve(high));
        for (int32_t j = 0; j < 4; ++j) {
            byte |= (uint32_t)(x[j] > least[j] && (x[j] < most[j] || !(high < __builtin_inff()))) << (4 * i + j);
        }
#endif
    }
    bits[0] = (uint8_t)byte;
}

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3

/* Where eight bytes stand that are `pitch` apart, of which the last is less than 2^16 behind the first. */
typedef uint16x8_t tt_o_mve;

static inline tt_o_mve tt_apart_mve(int32_t pitch)
{
    return vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)pitch);
}

static inline tt_o_mve tt_o_load_mve(const uint16_t *from)
{
    return vldrhq_u16(from);
}

/* Where sixteen bytes stand, of which the last is less than 2^8 behind `from`. */
typedef uint8x16_t tt_g_mve;

static inline tt_g_mve tt_g_load_mve(const uint8_t *from)
{
    return vldrbq_u8(from);
}

static inline tt_b_mve tt_b_gather_mve(const int8_t *from, tt_g_mve at)
{
    return vldrbq_gather_offset_s8(from, at);
}

/* The first n of eight bytes from places that are apart to others. */
static inline void tt_spread_mve(int8_t *to, tt_o_mve to_apart, const int8_t *from, tt_o_mve from_apart, uint32_t n)
{
    int16x8_t v;
    if (n < 8) {
        __asm volatile("vctp.16 %5\n\tvpstt\n\tvldrbt.u16 %q0, [%1, %q2]\n\tvstrbt.16 %q0, [%3, %q4]"
                       : "=&w"(v)
                       : "r"(from), "w"(from_apart), "r"(to), "w"(to_apart), "r"(n)
                       : "memory", "p0");
    } else {
        __asm volatile("vldrb.u16 %q0, [%1, %q2]\n\tvstrb.16 %q0, [%3, %q4]"
                       : "=&w"(v)
                       : "r"(from), "w"(from_apart), "r"(to), "w"(to_apart)
                       : "memory");
    }
}

/* One value into n of eight such places. */
static inline void tt_spread_one_mve(int8_t *to, tt_o_mve to_apart, int32_t value, uint32_t n)
{
    __asm volatile("vctp.16 %3\n\tvpst\n\tvstrbt.16 %q2, [%0, %q1]"
                   :
                   : "r"(to), "w"(to_apart), "w"(vdupq_n_s16((int16_t)value)), "r"(n)
                   : "memory", "p0");
}

static inline int32_t tt_b_product_mve(tt_b_mve a, tt_b_mve b)
{
    return vmladavq_s8(a, b);
}

/* Lanes 0 and 2 of a vector, the others being whatever; and lanes 1 and 3 of one that has those. */
static inline tt_i_mve tt_i_even_mve(int32_t i0, int32_t i2)
{
    tt_i_mve i;
    __asm("vmov %q0[2], %q0[0], %1, %2" : "=w"(i) : "r"(i0), "r"(i2));
    return i;
}

static inline tt_i_mve tt_i_odd_mve(tt_i_mve i, int32_t i1, int32_t i3)
{
    __asm("vmov %q0[3], %q0[1], %1, %2" : "+w"(i) : "r"(i1), "r"(i3));
    return i;
}

static inline void tt_b_copy_mve(int8_t *to, const int8_t *from, uint32_t n)
{
    tt_b_mve v;
    __asm volatile("dlstp.8 lr, %3\n1:\n\tvldrb.u8 %q2, [%1], #16\n\tvstrb.8 %q2, [%0], #16\n\tletp lr, 1b"
                   : "+&r"(to), "+&r"(from), "=&w"(v)
                   : "r"(n)
                   : "memory", "lr");
}

/* acc + more, as tt_i_requantise_by_mve with the same s everywhere. */
static inline tt_i_mve tt_i_requantise_one_mve(tt_i_mve acc, int32_t more, tt_i_mve m, int32_t s, int32_t zero_point, int32_t low,
                                               int32_t high)
{
    const int32_t left = 33 - s;
    const tt_i_mve product = vmulhq_s32(vqshlq_r_s32(vaddq_n_s32(acc, more), left > 0 ? left : 0), m);
    const tt_i_mve q = vaddq_n_s32(vrshlq_n_s32(product, (left < 0 ? left : 0) - 1), zero_point);
    return tt_i_within_mve(q, low, high);
}

/* The first n of four int32 as int8, `pitch` apart. */
static inline void tt_i_spread_s8_mve(int8_t *to, int32_t pitch, tt_i_mve i, uint32_t n)
{
    const uint32x4_t apart = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)pitch);
    if (n < 4) {
        __asm volatile("vctp.32 %3\n\tvpst\n\tvstrbt.32 %q2, [%0, %q1]" : : "r"(to), "w"(apart), "w"(i), "r"(n) : "memory", "p0");
    } else {
        __asm volatile("vstrb.32 %q2, [%0, %q1]" : : "r"(to), "w"(apart), "w"(i) : "memory");
    }
}
#else
typedef struct {
    uint16_t at[8];
} tt_o_mve;

static inline tt_o_mve tt_apart_mve(int32_t pitch)
{
    tt_o_mve o;
    for (int32_t i = 0; i < 8; ++i) {
        o.at[i] = (uint16_t)(i * pitch);
    }
    return o;
}

static inline tt_o_mve tt_o_load_mve(const uint16_t *from)
{
    tt_o_mve o;
    __builtin_memcpy(o.at, from, sizeof o.at);
    return o;
}

typedef struct {
    uint8_t at[16];
} tt_g_mve;

static inline tt_g_mve tt_g_load_mve(const uint8_t *from)
{
    tt_g_mve g;
    __builtin_memcpy(g.at, from, sizeof g.at);
    return g;
}

static inline tt_b_mve tt_b_gather_mve(const int8_t *from, tt_g_mve at)
{
    tt_b_mve b;
    for (int i = 0; i < 16; ++i) {
        b.at[i] = from[at.at[i]];
    }
    return b;
}

static inline void tt_spread_mve(int8_t *to, tt_o_mve to_apart, const int8_t *from, tt_o_mve from_apart, uint32_t n)
{
    for (uint32_t i = 0; i < n && i < 8; ++i) {
        to[to_apart.at[i]] = from[from_apart.at[i]];
    }
}

static inline void tt_spread_one_mve(int8_t *to, tt_o_mve to_apart, int32_t value, uint32_t n)
{
    for (uint32_t i = 0; i < n && i < 8; ++i) {
        to[to_apart.at[i]] = (int8_t)value;
    }
}

static inline int32_t tt_b_product_mve(tt_b_mve a, tt_b_mve b)
{
    return tt_b_dot_mve(0, a, b);
}

static inline tt_i_mve tt_i_even_mve(int32_t i0, int32_t i2)
{
    return (tt_i_mve){ { i0, 0, i2, 0 } };
}

static inline tt_i_mve tt_i_odd_mve(tt_i_mve i, int32_t i1, int32_t i3)
{
    return (tt_i_mve){ { i.at[0], i1, i.at[2], i3 } };
}

static inline void tt_b_copy_mve(int8_t *to, const int8_t *from, uint32_t n)
{
    __builtin_memcpy(to, from, n);
}

static inline tt_i_mve tt_i_requantise_one_mve(tt_i_mve acc, int32_t more, tt_i_mve m, int32_t s, int32_t zero_point, int32_t low,
                                               int32_t high)
{
    const tt_i_mve left = tt_i_all_mve(tt_left(s)), right = tt_i_all_mve(tt_right(s));
    return tt_i_requantise_by_mve(tt_i_add_mve(acc, tt_i_all_mve(more)), m, left, right, zero_point, low, high);
}

static inline void tt_i_spread_s8_mve(int8_t *to, int32_t pitch, tt_i_mve i, uint32_t n)
{
    for (uint32_t v = 0; v < n && v < 4; ++v) {
        to[(int32_t)v * pitch] = (int8_t)i.at[v];
    }
}
#endif

#endif
