/* SPDX-License-Identifier: Apache-2.0 */
/* Integers beside floats in RISC-V vectors, as tt_integer_words.h has them: words of tt_simd_rvv.h, which includes this. */
#ifndef TT_SIMD_RVV_INTEGER_H
#define TT_SIMD_RVV_INTEGER_H

#include "tt_integer_words.h"

#if defined(__riscv_vector) && defined(__riscv_v_min_vlen) && __riscv_v_min_vlen >= 128

typedef vuint32m4_t tt_u_rvv;

static inline tt_i_rvv tt_i_load_s8_rvv(const int8_t *from)
{
    return __riscv_vsext_vf4_i32m4(__riscv_vle8_v_i8m1(from, 16), 16);
}

static inline tt_i_rvv tt_i_load_u8_rvv(const uint8_t *from)
{
    return __riscv_vreinterpret_v_u32m4_i32m4(__riscv_vzext_vf4_u32m4(__riscv_vle8_v_u8m1(from, 16), 16));
}

static inline tt_i_rvv tt_i_bits_rvv(const uint8_t *bits, int32_t i, int32_t row)
{
    const uint32_t three = bits[i >> 3] | (uint32_t)bits[(i + 8) >> 3] << 8 | (uint32_t)bits[(i + 15) >> 3] << 16;
    const tt_u_rvv lanes = __riscv_vsrl_vv_u32m4(__riscv_vmv_v_x_u32m4(three >> (i & 7), 16), __riscv_vid_v_u32m4(16), 16);
    (void)row;
    return __riscv_vreinterpret_v_u32m4_i32m4(__riscv_vand_vx_u32m4(lanes, 1, 16));
}

static inline tt_v_rvv tt_pick_rvv(tt_i_rvv bits, tt_v_rvv a, tt_v_rvv b)
{
    return __riscv_vmerge_vvm_f32m4(b, a, __riscv_vmsne_vx_i32m4_b8(bits, 0, 16), 16);
}

static inline tt_v_rvv tt_equal_rvv(tt_i_rvv i, int32_t number, tt_v_rvv a, tt_v_rvv b)
{
    return __riscv_vmerge_vvm_f32m4(b, a, __riscv_vmseq_vx_i32m4_b8(i, number, 16), 16);
}

static inline tt_i_rvv tt_i_where_rvv(tt_v_rvv x, tt_v_rvv y, tt_i_rvv a, tt_i_rvv b)
{
    return __riscv_vmerge_vvm_i32m4(b, a, __riscv_vmfgt_vv_f32m4_b8(x, y, 16), 16);
}

static inline tt_i_rvv tt_i_more_rvv(tt_i_rvv x, tt_i_rvv y, tt_i_rvv a, tt_i_rvv b)
{
    return __riscv_vmerge_vvm_i32m4(b, a, __riscv_vmsgt_vv_i32m4_b8(x, y, 16), 16);
}

static inline tt_i_rvv tt_i_mul_rvv(tt_i_rvv a, tt_i_rvv b)
{
    return __riscv_vmul_vv_i32m4(a, b, 16);
}

static inline tt_v_rvv tt_real_rvv(tt_i_rvv i)
{
    return __riscv_vfcvt_f_x_v_f32m4(i, 16);
}

static inline tt_i_rvv tt_i_within_rvv(tt_i_rvv i, int32_t low, int32_t high)
{
    return __riscv_vmin_vx_i32m4(__riscv_vmax_vx_i32m4(i, low, 16), high, 16);
}

static inline tt_i_rvv tt_i_quantise_rvv(tt_v_rvv d, float scale, int32_t zero_point, int32_t low, int32_t high)
{
    const tt_v_rvv v = __riscv_vfdiv_vf_f32m4(d, scale, 16);
    const tt_i_rvv q = __riscv_vfcvt_x_f_v_i32m4(__riscv_vmerge_vvm_f32m4(tt_zero_rvv(), v, __riscv_vmfeq_vv_f32m4_b8(v, v, 16), 16), 16);
    return tt_i_within_rvv(__riscv_vsadd_vx_i32m4(q, zero_point, 16), low, high);
}

static inline tt_u_rvv tt_mix_rvv(tt_u_rvv h)
{
    h = __riscv_vmul_vx_u32m4(__riscv_vxor_vv_u32m4(h, __riscv_vsrl_vx_u32m4(h, 16, 16), 16), UINT32_C(0x85EBCA6B), 16);
    h = __riscv_vmul_vx_u32m4(__riscv_vxor_vv_u32m4(h, __riscv_vsrl_vx_u32m4(h, 13, 16), 16), UINT32_C(0xC2B2AE35), 16);
    return __riscv_vxor_vv_u32m4(h, __riscv_vsrl_vx_u32m4(h, 16, 16), 16);
}

static inline tt_i_rvv tt_i_random_rvv(uint32_t seed, uint32_t counter)
{
    const tt_u_rvv at = __riscv_vadd_vx_u32m4(__riscv_vid_v_u32m4(16), counter, 16);
    const tt_u_rvv h = tt_mix_rvv(__riscv_vadd_vx_u32m4(__riscv_vmul_vx_u32m4(at, UINT32_C(0x9E3779B1), 16), seed, 16));
    const uint32_t key = seed * UINT32_C(0x85EBCA77) + UINT32_C(0x165667B1);
    return __riscv_vreinterpret_v_u32m4_i32m4(tt_mix_rvv(__riscv_vxor_vx_u32m4(h, key, 16)));
}

/* −i where d is below 0 */
static inline tt_i_rvv tt_i_signed_rvv(tt_i_rvv i, tt_v_rvv d)
{
    return __riscv_vmerge_vvm_i32m4(i, __riscv_vneg_v_i32m4(i, 16), __riscv_vmflt_vf_f32m4_b8(d, 0.0f, 16), 16);
}

static inline tt_v_rvv tt_step_size_rvv(tt_v_rvv d, float limit)
{
    const tt_v_rvv a = __riscv_vfabs_v_f32m4(d, 16);
    return __riscv_vfmin_vf_f32m4(__riscv_vmerge_vvm_f32m4(tt_zero_rvv(), a, __riscv_vmfeq_vv_f32m4_b8(a, a, 16), 16), limit, 16);
}

/* What is 0 or more, rounded down. Conversions are by the current mode, to nearest, throughout: QEMU before 8 fails at one with a mode of its
 * own that is the first float instruction of a block, and a page ends a block anywhere. */
static inline tt_i_rvv tt_i_floor_rvv(tt_v_rvv a)
{
    const tt_i_rvv n = __riscv_vfcvt_x_f_v_i32m4(a, 16);
    const vbool8_t above = __riscv_vmfgt_vv_f32m4_b8(__riscv_vfcvt_f_x_v_f32m4(n, 16), a, 16);
    return __riscv_vmerge_vvm_i32m4(n, __riscv_vadd_vx_i32m4(n, -1, 16), above, 16);
}

static inline tt_u_rvv tt_u_floor_rvv(tt_v_rvv a)
{
    const tt_u_rvv n = __riscv_vfcvt_xu_f_v_u32m4(a, 16);
    const vbool8_t above = __riscv_vmfgt_vv_f32m4_b8(__riscv_vfcvt_f_xu_v_f32m4(n, 16), a, 16);
    return __riscv_vmerge_vvm_u32m4(n, __riscv_vsub_vx_u32m4(n, 1, 16), above, 16);
}

static inline tt_i_rvv tt_i_stochastic_rvv(tt_v_rvv d, float limit, tt_i_rvv word)
{
    const tt_v_rvv a = tt_step_size_rvv(d, limit);
    const tt_i_rvv n = tt_i_floor_rvv(a);
    const tt_v_rvv rest = __riscv_vfsub_vv_f32m4(a, __riscv_vfcvt_f_x_v_f32m4(n, 16), 16);
    const tt_u_rvv chance = tt_u_floor_rvv(__riscv_vfmul_vf_f32m4(rest, 0x1p32f, 16));
    const vbool8_t up = __riscv_vmsltu_vv_u32m4_b8(__riscv_vreinterpret_v_i32m4_u32m4(word), chance, 16);
    return tt_i_signed_rvv(__riscv_vmerge_vvm_i32m4(n, __riscv_vadd_vx_i32m4(n, 1, 16), up, 16), d);
}

static inline tt_i_rvv tt_i_nearest_rvv(tt_v_rvv d, float limit)
{
    const tt_v_rvv a = tt_step_size_rvv(d, limit);
    const tt_i_rvv n = __riscv_vfcvt_x_f_v_i32m4(a, 16); /* a half that went to the even number below is still to be added */
    const vbool8_t up = __riscv_vmfge_vf_f32m4_b8(__riscv_vfsub_vv_f32m4(a, __riscv_vfcvt_f_x_v_f32m4(n, 16), 16), 0.5f, 16);
    return tt_i_signed_rvv(__riscv_vmerge_vvm_i32m4(n, __riscv_vadd_vx_i32m4(n, 1, 16), up, 16), d);
}

static inline tt_i_rvv tt_i_moved_rvv(tt_i_rvv w, tt_i_rvv step, int32_t bound)
{
    return __riscv_vmin_vx_i32m4(__riscv_vmax_vx_i32m4(__riscv_vsub_vv_i32m4(w, step, 16), -bound, 16), bound, 16);
}

static inline tt_i_rvv tt_i_moved_wide_rvv(tt_i_rvv w, tt_i_rvv step, int32_t bound)
{
    const tt_i_rvv low = __riscv_vmin_vx_i32m4(w, -bound, 16), high = __riscv_vmax_vx_i32m4(w, bound, 16);
    return __riscv_vmin_vv_i32m4(__riscv_vmax_vv_i32m4(__riscv_vssub_vv_i32m4(w, step, 16), low, 16), high, 16);
}

static inline tt_i_rvv tt_i_weighted_rvv(tt_i_rvv a, int32_t ma, tt_i_rvv b, int32_t mb, int32_t c, int32_t shift)
{
    const tt_i_rvv sum = __riscv_vmacc_vx_i32m4(__riscv_vmacc_vx_i32m4(tt_i_all_rvv(c), ma, a, 16), mb, b, 16);
    return __riscv_vsra_vx_i32m4(sum, (size_t)shift, 16);
}
#else
TT_INTEGER_WORDS(rvv, 16)
#endif

#define tt_i_store_u8_rvv(to, i) tt_i_store_s8_rvv((int8_t *)(to), i)

#endif
