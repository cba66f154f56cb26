/* SPDX-License-Identifier: Apache-2.0 */
/* The words of tt_master_words.h on Helium: words of tt_simd_mve.h, which includes this. */
#ifndef TT_SIMD_MVE_MASTER_H
#define TT_SIMD_MVE_MASTER_H

#include "tt_master_words.h"

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 3

/* binutils 2.40 encodes other registers than those that stand in VCVT between vectors of halves and of floats. */
#define TT_VCVT_MVE(code, to, from) ".inst.w " code " + (" #to " << 13) + (" #from " << 1)\n\t"
#define TT_WIDEN_EVEN(to, from) TT_VCVT_MVE("0xFE3F0E01", to, from)
#define TT_WIDEN_ODD(to, from) TT_VCVT_MVE("0xFE3F1E01", to, from)
#define TT_NARROW_EVEN(to, from) TT_VCVT_MVE("0xEE3F0E01", to, from)
#define TT_NARROW_ODD(to, from) TT_VCVT_MVE("0xEE3F1E01", to, from)

static inline tt_i_mve tt_i_load_s16_mve(const int16_t *from)
{
    return vldrhq_s32(from);
}

static inline void tt_i_store_s16_mve(int16_t *to, tt_i_mve i)
{
    vstrhq_s32(to, i);
}

static inline tt_v_mve tt_nearest_mve(tt_v_mve number)
{
    register tt_v_mve v __asm("q6") = number;
    __asm(TT_NARROW_EVEN(6, 6) TT_WIDEN_EVEN(6, 6) : "+w"(v));
    return v;
}

static inline tt_v_mve tt_away_mve(tt_v_mve number)
{
    return (tt_v_mve)vsriq_n_u32((uint32x4_t)number, vdupq_n_u32(UINT32_C(111) << 24), 1);
}

static inline tt_v_mve tt_further_mve(tt_v_mve number, tt_i_mve by)
{
    return (tt_v_mve)vaddq_s32((tt_i_mve)number, by);
}

static inline tt_i_mve tt_i_between_mve(tt_v_mve from, tt_v_mve to)
{
    return vsubq_s32((tt_i_mve)to, (tt_i_mve)from);
}

static inline tt_v_mve tt_unit_mve(tt_v_mve number)
{
    const tt_i_mve exponent = vmaxq_s32(vandq_s32((tt_i_mve)number, vdupq_n_s32(0x7F800000)), vdupq_n_s32(113 << 23));
    return (tt_v_mve)vsubq_n_s32(exponent, 26 << 23);
}

static inline tt_v_mve tt_in_units_mve(tt_v_mve number, tt_v_mve unit)
{
    return vmulq_f32(number, (tt_v_mve)vsubq_s32(vdupq_n_s32(254 << 23), (tt_i_mve)unit));
}

static inline tt_v_mve tt_lift_mve(tt_v_mve number)
{
    const tt_v_mve lift = (tt_v_mve)vsriq_n_u32((uint32x4_t)number, vdupq_n_u32(UINT32_C(113) << 24), 1);
    return tt_where_mve(vdupq_n_f32(0x1p-14f), vabsq_f32(number), lift, tt_zero_mve());
}

static inline tt_v_mve tt_drawn_mve(tt_v_mve lifted, tt_i_mve word)
{
    const tt_i_mve sum = vaddq_s32((tt_i_mve)lifted, (tt_i_mve)vshrq_n_u32((uint32x4_t)word, 19));
    return (tt_v_mve)vandq_s32(sum, vdupq_n_s32(~0x1FFF));
}
#else
TT_MASTER_LANES(mve, 4)
#endif
TT_MASTER_WORDS(mve)

#endif
