/* SPDX-License-Identifier: Apache-2.0 */
/* What RISC-V vectors do with int8 beside products, and bits of floats: words of tt_simd_rvv.h, which includes this. */
#ifndef TT_SIMD_RVV_BYTES_H
#define TT_SIMD_RVV_BYTES_H

#include <stdint.h>

#if defined(__riscv_vector) && defined(__riscv_v_min_vlen) && __riscv_v_min_vlen >= 128

/* Bit i is set where low < from[i] < high; of n elements, up to 64, in as many bytes as they need: the spare bits are 0. */
static inline void tt_inside_rvv(uint8_t *bits, const int8_t *from, int32_t low, int32_t high, uint32_t n)
{
    const uint32_t whole = (n + 7u) & ~7u;
    vint8m4_t v = __riscv_vmv_v_x_i8m4((int8_t)low, whole);
    v = __riscv_vle8_v_i8m4_tu(v, from, n);
    const vbool2_t above = __riscv_vmsgt_vx_i8m4_b2(v, (int8_t)low, whole), below = __riscv_vmslt_vx_i8m4_b2(v, (int8_t)high, whole);
    __riscv_vsm_v_b2(bits, __riscv_vmand_mm_b2(above, below, whole), whole);
}

/* The same of sixteen floats; an infinite `high` is no bound. */
static inline void tt_passes_rvv(uint8_t *bits, const float *from, float low, float high)
{
    const tt_v_rvv v = tt_load_rvv(from);
    const vbool8_t above = __riscv_vmfgt_vf_f32m4_b8(v, low, 16);
    const int bounded = high < __builtin_inff();
    __riscv_vsm_v_b8(bits, bounded ? __riscv_vmand_mm_b8(above, __riscv_vmflt_vf_f32m4_b8(v, high, 16), 16) : above, 16);
}
#else
static inline void tt_passes_rvv(uint8_t *bits, const float *from, float low, float high)
{
    for (uint32_t i = 0; i < 2; ++i) {
        uint32_t byte = 0;
        for (uint32_t j = 0; j < 8; ++j, ++from) {
            byte |= (uint32_t)(*from > low && (*from < high || !(high < __builtin_inff()))) << j;
        }
        bits[i] = (uint8_t)byte;
    }
}

static inline void tt_inside_rvv(uint8_t *bits, const int8_t *from, int32_t low, int32_t high, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 8) {
        uint32_t byte = 0;
        for (uint32_t j = 0; j < 8 && i + j < n; ++j) {
            byte |= (uint32_t)(low < from[i + j] && from[i + j] < high) << j;
        }
        bits[i / 8] = (uint8_t)byte;
    }
}
#endif

#endif
