/* SPDX-License-Identifier: Apache-2.0 */
/* Integers beside floats on Helium, as tt_integer_words.h has them: words of tt_simd_mve.h, which includes this. */
#ifndef TT_SIMD_MVE_INTEGER_H
#define TT_SIMD_MVE_INTEGER_H

#include "tt_integer_words.h"

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3

/* tt_left and tt_right of each. */
static inline tt_i_mve tt_i_left_mve(tt_i_mve s)
{
    return vmaxq_s32(vsubq_s32(vdupq_n_s32(33), s), vdupq_n_s32(0));
}

static inline tt_i_mve tt_i_right_mve(tt_i_mve s)
{
    return vminq_s32(vsubq_s32(vdupq_n_s32(32), s), vdupq_n_s32(-1));
}

static inline tt_i_mve tt_i_load_s8_mve(const int8_t *from)
{
    return vldrbq_s32(from);
}

static inline tt_i_mve tt_i_load_u8_mve(const uint8_t *from)
{
    return (tt_i_mve)vldrbq_u32(from);
}

static inline tt_i_mve tt_i_bits_mve(const uint8_t *bits, int32_t i, int32_t row)
{
    const tt_i_mve each = { 1, 2, 4, 8 };
    uint32_t byte = bits[i >> 3];
    if (row % 4) {
        byte |= (uint32_t)bits[(i + 3) >> 3] << 8;
    }
    return vandq_s32(vdupq_n_s32((int32_t)(byte >> (i & 7))), each);
}

static inline tt_v_mve tt_pick_mve(tt_i_mve bits, tt_v_mve a, tt_v_mve b)
{
    tt_v_mve v; /* gcc 12 breaks off at a comparison whose vector it knows in part */
    __asm("vcmp.i32 ne, %q1, zr\n\tvpsel %q0, %q2, %q3" : "=w"(v) : "w"(bits), "w"(a), "w"(b) : "p0");
    return v;
}

static inline tt_v_mve tt_equal_mve(tt_i_mve i, int32_t number, tt_v_mve a, tt_v_mve b)
{
    tt_v_mve v;
    __asm("vcmp.i32 eq, %q1, %2\n\tvpsel %q0, %q3, %q4" : "=w"(v) : "w"(i), "r"(number), "w"(a), "w"(b) : "p0");
    return v;
}

static inline tt_i_mve tt_i_where_mve(tt_v_mve x, tt_v_mve y, tt_i_mve a, tt_i_mve b)
{
    __asm("vcmp.f32 gt, %q1, %q2\n\tvpsel %q0, %q3, %q0" : "+w"(b) : "w"(x), "w"(y), "w"(a) : "p0");
    return b;
}

static inline tt_i_mve tt_i_more_mve(tt_i_mve x, tt_i_mve y, tt_i_mve a, tt_i_mve b)
{
    __asm("vcmp.s32 gt, %q1, %q2\n\tvpsel %q0, %q3, %q0" : "+w"(b) : "w"(x), "w"(y), "w"(a) : "p0");
    return b;
}

static inline tt_i_mve tt_i_mul_mve(tt_i_mve a, tt_i_mve b)
{
    return vmulq_s32(a, b);
}

static inline tt_v_mve tt_real_mve(tt_i_mve i)
{
    return vcvtq_f32_s32(i);
}

/* There is no division of vectors: lanes of q0 are s0 to s3. */
static inline tt_i_mve tt_i_quantise_mve(tt_v_mve d, float scale, int32_t zero_point, int32_t low, int32_t high)
{
    register tt_v_mve v __asm("q0") = d;
    __asm("vdiv.f32 s0, s0, %1\n\tvdiv.f32 s1, s1, %1\n\tvdiv.f32 s2, s2, %1\n\tvdiv.f32 s3, s3, %1" : "+w"(v) : "t"(scale));
    return tt_i_within_mve(vqaddq_n_s32(vcvtnq_s32_f32(v), zero_point), low, high);
}

static inline uint32x4_t tt_mix_mve(uint32x4_t h)
{
    h = vmulq_n_u32(veorq_u32(h, vshrq_n_u32(h, 16)), UINT32_C(0x85EBCA6B));
    h = vmulq_n_u32(veorq_u32(h, vshrq_n_u32(h, 13)), UINT32_C(0xC2B2AE35));
    return veorq_u32(h, vshrq_n_u32(h, 16));
}

static inline tt_i_mve tt_i_random_mve(uint32_t seed, uint32_t counter)
{
    const uint32x4_t h = tt_mix_mve(vaddq_n_u32(vmulq_n_u32(vidupq_n_u32(counter, 1), UINT32_C(0x9E3779B1)), seed));
    return (tt_i_mve)tt_mix_mve(veorq_u32(h, vdupq_n_u32(seed * UINT32_C(0x85EBCA77) + UINT32_C(0x165667B1))));
}

/* In assembly: gcc 12 sends each predicate through a register. −i where d is below 0; what is no number has become 0. */
static inline tt_i_mve tt_i_signed_mve(tt_i_mve i, tt_v_mve d)
{
    __asm("vcmp.f32 lt, %q1, zr\n\tvpst\n\tvnegt.s32 %q0, %q0" : "+w"(i) : "w"(d) : "p0");
    return i;
}

static inline tt_v_mve tt_step_size_mve(tt_v_mve d, float limit)
{
    tt_v_mve a = vabsq_f32(d);
    __asm("vcmp.f32 gt, %q0, %1\n\tvpst\n\tvdupt.32 %q0, %1" : "+w"(a) : "r"(limit) : "p0");
    return a;
}

static inline tt_i_mve tt_i_stochastic_mve(tt_v_mve d, float limit, tt_i_mve word)
{
    const tt_v_mve a = tt_step_size_mve(d, limit);
    tt_i_mve n = vcvtq_s32_f32(a);
    const uint32x4_t chance = vcvtq_n_u32_f32(vsubq_f32(a, vcvtq_f32_s32(n)), 32);
    __asm("vcmp.u32 hi, %q1, %q2\n\tvpst\n\tvaddt.i32 %q0, %q0, %3" : "+w"(n) : "w"(chance), "w"(word), "r"(1) : "p0");
    return tt_i_signed_mve(n, d);
}

static inline tt_i_mve tt_i_nearest_mve(tt_v_mve d, float limit)
{
    const tt_v_mve a = tt_step_size_mve(d, limit);
    tt_i_mve n = vcvtq_s32_f32(a);
    const tt_v_mve rest = vsubq_f32(a, vcvtq_f32_s32(n));
    __asm("vcmp.f32 ge, %q1, %2\n\tvpst\n\tvaddt.i32 %q0, %q0, %3" : "+w"(n) : "w"(rest), "r"(0.5f), "r"(1) : "p0");
    return tt_i_signed_mve(n, d);
}

static inline tt_i_mve tt_i_moved_mve(tt_i_mve w, tt_i_mve step, int32_t bound)
{
    return vminq_s32(vmaxq_s32(vsubq_s32(w, step), vdupq_n_s32(-bound)), vdupq_n_s32(bound));
}

static inline tt_i_mve tt_i_moved_wide_mve(tt_i_mve w, tt_i_mve step, int32_t bound)
{
    const tt_i_mve low = vminq_s32(w, vdupq_n_s32(-bound)), high = vmaxq_s32(w, vdupq_n_s32(bound));
    return vminq_s32(vmaxq_s32(vqsubq_s32(w, step), low), high);
}

static inline tt_i_mve tt_i_weighted_mve(tt_i_mve a, int32_t ma, tt_i_mve b, int32_t mb, int32_t c, int32_t shift)
{
    return vshlq_r_s32(vmlaq_n_s32(vmlaq_n_s32(vdupq_n_s32(c), a, ma), b, mb), -shift);
}
#else
TT_INTEGER_WORDS(mve, 4)
TT_EACH_LANE(mve, 4, left, (tt_i_mve s), tt_left(s.at[v]))
TT_EACH_LANE(mve, 4, right, (tt_i_mve s), tt_right(s.at[v]))
#endif

static inline tt_i_mve tt_i_requantise_mve(tt_i_mve acc, tt_i_mve m, tt_i_mve s, int32_t zero_point, int32_t low, int32_t high)
{
    return tt_i_requantise_by_mve(acc, m, tt_i_left_mve(s), tt_i_right_mve(s), zero_point, low, high);
}

#define tt_i_store_u8_mve(to, i) tt_i_store_s8_mve((int8_t *)(to), i)

#endif
