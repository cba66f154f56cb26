/* SPDX-License-Identifier: Apache-2.0 */
/* Helium on halves: eight of them in a register. Sums of products are VFMA.F16, a few at a time, and what they come to is added in fp32; all
 * else is fp32, in the words of tt_simd_mve.h, of a pair of vectors: that of the even lanes and that of the odd ones, as VCVTB and VCVTT have them.
 *
 * Of halves the vector unit keeps subnormal numbers as long as FPSCR.FZ16 is 0, as it is out of reset, and flushes fp32 alone; conversions flush
 * no half whatever FPSCR says. It rounds to nearest even, past 65504 to infinity, and there is one NaN. In C for every other target, same bits. */
#ifndef TT_SIMD_MVEH_H
#define TT_SIMD_MVEH_H

#include "tt_half.h"
#include "tt_simd_mve.h"

typedef struct {
    tt_v_mve even, odd;
} tt_v_mveh;

#define TT_PAIR_MVEH(word, ...) \
    static inline tt_v_mveh tt_##word##_mveh __VA_ARGS__
#define TT_BOTH_MVEH(word, of_even, of_odd) return (tt_v_mveh){ tt_##word##_mve of_even, tt_##word##_mve of_odd };

TT_PAIR_MVEH(zero, (void)) { TT_BOTH_MVEH(zero, (), ()) }
TT_PAIR_MVEH(splat, (float s)) { TT_BOTH_MVEH(splat, (s), (s)) }
TT_PAIR_MVEH(add, (tt_v_mveh a, tt_v_mveh b)) { TT_BOTH_MVEH(add, (a.even, b.even), (a.odd, b.odd)) }
TT_PAIR_MVEH(sub, (tt_v_mveh a, tt_v_mveh b)) { TT_BOTH_MVEH(sub, (a.even, b.even), (a.odd, b.odd)) }
TT_PAIR_MVEH(mul, (tt_v_mveh a, tt_v_mveh b)) { TT_BOTH_MVEH(mul, (a.even, b.even), (a.odd, b.odd)) }
TT_PAIR_MVEH(madd, (tt_v_mveh acc, tt_v_mveh v, float s)) { TT_BOTH_MVEH(madd, (acc.even, v.even, s), (acc.odd, v.odd, s)) }
TT_PAIR_MVEH(madd_lanes, (tt_v_mveh acc, tt_v_mveh a, tt_v_mveh b))
{
    TT_BOTH_MVEH(madd_lanes, (acc.even, a.even, b.even), (acc.odd, a.odd, b.odd))
}
TT_PAIR_MVEH(where, (tt_v_mveh x, tt_v_mveh y, tt_v_mveh a, tt_v_mveh b))
{
    TT_BOTH_MVEH(where, (x.even, y.even, a.even, b.even), (x.odd, y.odd, a.odd, b.odd))
}

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3

typedef uint16x8_t tt_h_mveh;

static inline tt_v_mveh tt_load_mveh(const float *from)
{
    const float32x4x2_t v = vld2q_f32(from);
    return (tt_v_mveh){ v.val[0], v.val[1] };
}

static inline void tt_store_mveh(float *to, tt_v_mveh v)
{
    const float32x4x2_t both = { { v.even, v.odd } };
    vst2q_f32(to, both);
}

static inline tt_v_mveh tt_widened_mveh(tt_h_mveh h)
{
    register tt_v_mve even __asm("q6");
    register tt_h_mveh both __asm("q7") = h;
    __asm(TT_WIDEN_EVEN(6, 7) TT_WIDEN_ODD(7, 7) : "=&w"(even), "+w"(both));
    return (tt_v_mveh){ even, (tt_v_mve)both };
}

static inline void tt_store_half_mveh(tt_half *to, tt_v_mveh v)
{
    register tt_v_mve even __asm("q6") = v.even;
    register tt_v_mve odd __asm("q7") = v.odd;
    __asm(TT_NARROW_EVEN(6, 6) TT_NARROW_ODD(6, 7) "vstrh.16 q6, [%2]" : "+w"(even), "=m"(*(tt_half(*)[8])to) : "r"(to), "w"(odd));
}

/* Halves as they are. */
static inline tt_h_mveh tt_h_load_mveh(const tt_half *from)
{
    return vldrhq_u16(from);
}

static inline void tt_h_store_mveh(tt_half *to, tt_h_mveh h)
{
    vstrhq_u16(to, h);
}

static inline tt_h_mveh tt_h_zero_mveh(void)
{
    return vdupq_n_u16(0);
}

/* acc + v·s, rounded once to halves */
static inline tt_h_mveh tt_h_madd_mveh(tt_h_mveh acc, tt_h_mveh v, tt_half s)
{
    __asm("vfma.f16 %q0, %q1, %2" : "+w"(acc) : "w"(v), "r"(s));
    return acc;
}

static inline tt_h_mveh tt_h_madd_lanes_mveh(tt_h_mveh acc, tt_h_mveh a, tt_h_mveh b)
{
    __asm("vfma.f16 %q0, %q1, %q2" : "+w"(acc) : "w"(a), "w"(b));
    return acc;
}

static inline tt_h_mveh tt_h_add_mveh(tt_h_mveh a, tt_h_mveh b)
{
    __asm("vadd.f16 %q0, %q0, %q1" : "+w"(a) : "w"(b));
    return a;
}
#else

/* Halves as the floats that they are. */
typedef tt_v_mveh tt_h_mveh;

static inline tt_v_mveh tt_load_mveh(const float *from)
{
    return (tt_v_mveh){ { from[0], from[2], from[4], from[6] }, { from[1], from[3], from[5], from[7] } };
}

static inline void tt_store_mveh(float *to, tt_v_mveh v)
{
    for (int i = 0; i < 4; ++i) {
        to[2 * i] = v.even[i];
        to[2 * i + 1] = v.odd[i];
    }
}

static inline float tt_one_nan_mveh(float x)
{
    return (tt_to_bits(x) & UINT32_C(0x7FFFFFFF)) > UINT32_C(0x7F800000) ? tt_from_bits(UINT32_C(0x7FC00000)) : x;
}

static inline tt_h_mveh tt_h_load_mveh(const tt_half *from)
{
    float values[8];
    for (int i = 0; i < 8; ++i) {
        values[i] = tt_one_nan_mveh(tt_half_to_float(from[i]));
    }
    return tt_load_mveh(values);
}

static inline void tt_h_store_mveh(tt_half *to, tt_h_mveh h)
{
    float values[8];
    tt_store_mveh(values, h);
    for (int i = 0; i < 8; ++i) {
        to[i] = tt_float_to_half(tt_one_nan_mveh(values[i]));
    }
}

#define tt_widened_mveh(h) (h)
#define tt_store_half_mveh tt_h_store_mveh
#define tt_h_zero_mveh tt_zero_mveh

/* The half that is nearest to sum + lost, where `lost` is what rounding the sum to fp32 has cost: rounded to odd, its 24 bits are enough
 * for the second rounding to be right. That is done by a number so large that the last bit of a sum with it is the last of a half. */
static inline tt_v_mve tt_nearest_half_mveh(tt_v_mve sum, tt_v_mve lost)
{
    tt_v_bits_mve bits = (tt_v_bits_mve)sum;
    const tt_v_bits_mve outwards = (lost > 0.0f) ^ (bits < 0), odd = -(bits & 1);
    bits += ((lost > 0.0f) | (lost < 0.0f)) & ~odd & (~outwards | 1);
    const tt_v_bits_mve sign = bits & INT32_MIN, size = bits & INT32_MAX;
    const tt_v_bits_mve own = size & 0x7F800000, small = own < 113 << 23;
    const tt_v_mve large = (tt_v_mve)((((own & ~small) | (small & (113 << 23))) + (13 << 23)) | sign);
    const tt_v_bits_mve rounded = (tt_v_bits_mve)(((tt_v_mve)bits + large) - large) & INT32_MAX;
    const tt_v_bits_mve beyond = (rounded > 0x477FE000) | (size >= 0x7F800000), nan = size > 0x7F800000;
    const tt_v_bits_mve half = (rounded & ~beyond) | (beyond & 0x7F800000) | sign;
    return (tt_v_mve)((half & ~nan) | (nan & 0x7FC00000));
}

/* Products of halves are exact in fp32; what their sum loses is found by Knuth's two-sum. */
static inline tt_v_mve tt_fused_half_mveh(tt_v_mve acc, tt_v_mve a, tt_v_mve b)
{
    const tt_v_mve product = a * b, sum = product + acc, part = sum - product;
    return tt_nearest_half_mveh(sum, (product - (sum - part)) + (acc - part));
}

static inline tt_h_mveh tt_h_madd_lanes_mveh(tt_h_mveh acc, tt_h_mveh a, tt_h_mveh b)
{
    return (tt_h_mveh){ tt_fused_half_mveh(acc.even, a.even, b.even), tt_fused_half_mveh(acc.odd, a.odd, b.odd) };
}

static inline tt_h_mveh tt_h_madd_mveh(tt_h_mveh acc, tt_h_mveh v, tt_half s)
{
    return tt_h_madd_lanes_mveh(acc, v, tt_splat_mveh(tt_half_to_float(s)));
}

static inline tt_h_mveh tt_h_add_mveh(tt_h_mveh a, tt_h_mveh b)
{
    return tt_h_madd_lanes_mveh(a, b, tt_splat_mveh(1.0f));
}
#endif

static inline tt_v_mveh tt_load_half_mveh(const tt_half *from)
{
    return tt_widened_mveh(tt_h_load_mveh(from));
}

/* sum + h in fp32 */
static inline tt_v_mveh tt_folded_mveh(tt_v_mveh sum, tt_h_mveh h)
{
    return tt_add_mveh(sum, tt_widened_mveh(h));
}

#include "tt_simd_mveh_integer.h"
#include "tt_simd_mveh_tiles.h"

#endif
