/* SPDX-License-Identifier: Apache-2.0 */
/* The words of tt_master_words.h in instructions: words of tt_simd_rvv.h, which includes this. */
#ifndef TT_SIMD_RVV_MASTER_H
#define TT_SIMD_RVV_MASTER_H

#include "tt_master_words.h"

#if defined(__riscv_vector) && defined(__riscv_v_min_vlen) && __riscv_v_min_vlen >= 128

static inline tt_i_rvv tt_i_load_s16_rvv(const int16_t *from)
{
    return __riscv_vsext_vf2_i32m4(__riscv_vle16_v_i16m2(from, 16), 16);
}

static inline void tt_i_store_s16_rvv(int16_t *to, tt_i_rvv i)
{
    __riscv_vse16_v_i16m2(to, __riscv_vncvt_x_x_w_i16m2(i, 16), 16);
}

static inline tt_v_rvv tt_nearest_rvv(tt_v_rvv number)
{
    return tt_widened_m4(tt_halves_of_rvv(number), 16);
}

static inline tt_v_rvv tt_away_rvv(tt_v_rvv number)
{
    return __riscv_vfsgnj_vv_f32m4(tt_splat_rvv(0x1p-16f), number, 16);
}

static inline tt_v_rvv tt_further_rvv(tt_v_rvv number, tt_i_rvv by)
{
    return __riscv_vreinterpret_v_i32m4_f32m4(tt_i_add_rvv(__riscv_vreinterpret_v_f32m4_i32m4(number), by));
}

static inline tt_i_rvv tt_i_between_rvv(tt_v_rvv from, tt_v_rvv to)
{
    return __riscv_vsub_vv_i32m4(__riscv_vreinterpret_v_f32m4_i32m4(to), __riscv_vreinterpret_v_f32m4_i32m4(from), 16);
}

static inline tt_v_rvv tt_lift_rvv(tt_v_rvv number)
{
    const vbool8_t small = __riscv_vmflt_vf_f32m4_b8(__riscv_vfabs_v_f32m4(number, 16), 0x1p-14f, 16);
    return __riscv_vmerge_vvm_f32m4(tt_zero_rvv(), __riscv_vfsgnj_vv_f32m4(tt_splat_rvv(0x1p-14f), number, 16), small, 16);
}

static inline tt_v_rvv tt_drawn_rvv(tt_v_rvv lifted, tt_i_rvv word)
{
    const tt_u_rvv random = __riscv_vsrl_vx_u32m4(__riscv_vreinterpret_v_i32m4_u32m4(word), 19, 16);
    const tt_u_rvv sum = __riscv_vadd_vv_u32m4(__riscv_vreinterpret_v_f32m4_u32m4(lifted), random, 16);
    return __riscv_vreinterpret_v_u32m4_f32m4(__riscv_vand_vx_u32m4(sum, ~UINT32_C(0x1FFF), 16));
}

#else
TT_MASTER_LANES(rvv, 16)
#endif
TT_MASTER_WORDS(rvv)

#endif
