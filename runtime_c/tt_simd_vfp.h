/* SPDX-License-Identifier: Apache-2.0 */
/* Cortex-M with 32 single-precision registers: up to five times four sums stay in s0..s19 for a whole tile, and one VLDM brings the operands
 * of two steps. In C, a compiler loads each operand by itself. Elsewhere, and of fp16, the portable tiles stand for these. */
#ifndef TT_SIMD_VFP_H
#define TT_SIMD_VFP_H

#include "tt_simd_scalar.h"
#include <stddef.h>

#define tt_v_vfp tt_v_scalar
#define tt_zero_vfp tt_zero_scalar
#define tt_load_vfp tt_load_scalar
#define tt_store_vfp tt_store_scalar
#define tt_madd_vfp tt_madd_scalar
#define tt_madd_lanes_vfp tt_madd_lanes_scalar

#if defined(__ARM_FP) && defined(__thumb__) && defined(__OPTIMIZE__)

/* Four sums of one a and four b. Unfused, no sum reads a product right behind it: on a Cortex-M4 that would cost a cycle. */
#if TT_FUSED
#define TT_MAC4(c0, c1, c2, c3, a, b0, b1, b2, b3) \
    "vfma.f32 " c0 ", " a ", " b0 "\n\tvfma.f32 " c1 ", " a ", " b1 "\n\tvfma.f32 " c2 ", " a ", " b2 "\n\tvfma.f32 " c3 ", " a ", " b3 "\n\t"
#else
#define TT_MAC2(c0, c1, a, b0, b1) \
    "vmul.f32 s30, " a ", " b0 "\n\tvmul.f32 s31, " a ", " b1 "\n\tvadd.f32 " c0 ", " c0 ", s30\n\tvadd.f32 " c1 ", " c1 ", s31\n\t"
#define TT_MAC4(c0, c1, c2, c3, a, b0, b1, b2, b3) TT_MAC2(c0, c1, a, b0, b1) TT_MAC2(c2, c3, a, b2, b3)
#endif

#define TT_ROW0(a, b0, b1, b2, b3) TT_MAC4("s0", "s1", "s2", "s3", a, b0, b1, b2, b3)
#define TT_ROW1(a, b0, b1, b2, b3) TT_MAC4("s4", "s5", "s6", "s7", a, b0, b1, b2, b3)
#define TT_ROW2(a, b0, b1, b2, b3) TT_MAC4("s8", "s9", "s10", "s11", a, b0, b1, b2, b3)
#define TT_ROW3(a, b0, b1, b2, b3) TT_MAC4("s12", "s13", "s14", "s15", a, b0, b1, b2, b3)
#define TT_ROW4(a, b0, b1, b2, b3) TT_MAC4("s16", "s17", "s18", "s19", a, b0, b1, b2, b3)

#define TT_STEPS2(p, none) \
    "vldmia %[a" #p "]!, {s28-s29}\n\t" TT_ROW##p("s28", "s20", "s21", "s22", "s23") TT_ROW##p("s29", "s24", "s25", "s26", "s27")
#define TT_STEP1(p, none) "vldmia %[a" #p "]!, {s28}\n\t" TT_ROW##p("s28", "s20", "s21", "s22", "s23")
#define TT_GO_ON(p, none) "add %[a" #p "], %[a" #p "], %[t], lsl #2\n\t"
#define TT_OPERAND(p, none) [a##p] "+r"(a##p),
#define TT_TWO(P) "vldmia %[b]!, {s20-s27}\n\t" TT_P##P(TT_STEPS2, )

static const float tt_zeros[20] = { 0 };

#define TT_BROADCAST_VFP(P, last) \
    TT_SHARED void tt_broadcast_vfp_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, float) \
        int32_t t, n, cols, rows = w->rows; \
        __asm volatile("vldmia %[zeros], {s0-" last "}\n\t" \
                       "cmp %[rows], #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tldr %[cols], [%[w], %[at_cols]]\n" \
                       "2:\n\tldr %[n], [%[w], %[at_steps]]\n\t" \
                       "subs %[n], %[n], #4\n\t" \
                       "blt 4f\n" \
                       "3:\n\t" TT_TWO(P) TT_TWO(P) \
                       "subs %[n], %[n], #4\n\t" \
                       "bge 3b\n" \
                       "4:\n\tlsls %[t], %[n], #31\n\t" /* carry: two steps are left; negative: one */ \
                       "bcc 5f\n\t" TT_TWO(P) \
                       "5:\n\tbpl 6f\n\t" \
                       "vldmia %[b]!, {s20-s23}\n\t" TT_P##P(TT_STEP1, ) \
                       "6:\n\tsubs %[cols], %[cols], #1\n\t" \
                       "beq 7f\n\t" \
                       "ldr %[t], [%[w], %[at_a_col]]\n\t" \
                       "ldr %[n], [%[w], %[at_b_col]]\n\t" \
                       "add %[b], %[b], %[n], lsl #2\n\t" TT_P##P(TT_GO_ON, ) \
                       "b 2b\n" \
                       "7:\n\tldr %[t], [%[w], %[at_a_row]]\n\t" \
                       "ldr %[n], [%[w], %[at_b_row]]\n\t" \
                       "add %[b], %[b], %[n], lsl #2\n\t" TT_P##P(TT_GO_ON, ) \
                       "subs %[rows], %[rows], #1\n\t" \
                       "bne 1b\n" \
                       "9:\n\tvstmia %[acc], {s0-" last "}" \
                       : TT_P##P(TT_OPERAND, ) [b] "+r"(b), [rows] "+r"(rows), [t] "=&r"(t), [n] "=&r"(n), [cols] "=&r"(cols) \
                       : [w] "r"(w), [acc] "r"(acc), [zeros] "r"(tt_zeros), TT_WALK_AT \
                       : "cc", "memory", TT_SINGLES); \
    }

/* One step of `outer`: P neighbours a, four neighbours b. */
#define TT_ACROSS(p, none) TT_ROW##p(TT_A##p, "s25", "s26", "s27", "s28")
#define TT_A0 "s20"
#define TT_A1 "s21"
#define TT_A2 "s22"
#define TT_A3 "s23"
#define TT_A4 "s24"
#define TT_STEP(P) \
    "vldmia %[a], {" TT_A_LIST(P) "}\n\tvldmia %[b], {s25-s28}\n\t" \
    "add %[a], %[a], %[a_step], lsl #2\n\tadd %[b], %[b], %[b_step], lsl #2\n\t" TT_P##P(TT_ACROSS, )
#define TT_A_LIST(P) TT_A_LIST##P
#define TT_A_LIST1 "s20"
#define TT_A_LIST2 "s20-s21"
#define TT_A_LIST3 "s20-s22"
#define TT_A_LIST4 "s20-s23"
#define TT_A_LIST5 "s20-s24"

#define TT_OUTER_VFP(P, last) \
    TT_SHARED void tt_outer_vfp_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        const int32_t a_step = w->a_step, b_step = w->b_step; \
        int32_t t, n, rows = w->steps > 0 ? w->rows : 0; \
        __asm volatile("vldmia %[zeros], {s0-" last "}\n\t" \
                       "cmp %[rows], #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tldr %[n], [%[w], %[at_steps]]\n\t" \
                       "lsrs %[n], %[n], #1\n\t" \
                       "bcc 2f\n\t" TT_STEP(P) \
                       "2:\n\tbeq 4f\n" \
                       "3:\n\t" TT_STEP(P) TT_STEP(P) \
                       "subs %[n], %[n], #1\n\t" \
                       "bne 3b\n" \
                       "4:\n\tldr %[t], [%[w], %[at_a_row]]\n\t" \
                       "ldr %[n], [%[w], %[at_b_row]]\n\t" \
                       "add %[a], %[a], %[t], lsl #2\n\t" \
                       "add %[b], %[b], %[n], lsl #2\n\t" \
                       "subs %[rows], %[rows], #1\n\t" \
                       "bne 1b\n" \
                       "9:\n\tvstmia %[acc], {s0-" last "}" \
                       : [a] "+r"(a), [b] "+r"(b), [rows] "+r"(rows), [t] "=&r"(t), [n] "=&r"(n) \
                       : [w] "r"(w), [acc] "r"(acc), [zeros] "r"(tt_zeros), [a_step] "r"(a_step), [b_step] "r"(b_step), TT_WALK_AT \
                       : "cc", "memory", TT_SINGLES); \
    }

#define TT_WALK_AT \
    [at_cols] "J"(offsetof(tt_walk, cols)), [at_steps] "J"(offsetof(tt_walk, steps)), [at_a_col] "J"(offsetof(tt_walk, a_col)), \
        [at_a_row] "J"(offsetof(tt_walk, a_row)), [at_b_col] "J"(offsetof(tt_walk, b_col)), [at_b_row] "J"(offsetof(tt_walk, b_row))
#define TT_SINGLES \
    "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "s16", "s17", "s18", "s19", \
        "s20", "s21", "s22", "s23", "s24", "s25", "s26", "s27", "s28", "s29", "s30", "s31"

TT_BROADCAST_VFP(1, "s3")
TT_BROADCAST_VFP(2, "s7")
TT_BROADCAST_VFP(3, "s11")
TT_BROADCAST_VFP(4, "s15")
TT_BROADCAST_VFP(5, "s19")
TT_OUTER_VFP(1, "s3")
TT_OUTER_VFP(2, "s7")
TT_OUTER_VFP(3, "s11")
TT_OUTER_VFP(4, "s15")
TT_OUTER_VFP(5, "s19")
#else
TT_OUTER(vfp, 4, 1, , float, TT_PLAIN)
#define tt_broadcast_vfp_1 tt_direct_vfp_1
TT_OUTER(vfp, 4, 2, , float, TT_PLAIN)
#define tt_broadcast_vfp_2 tt_direct_vfp_2
TT_OUTER(vfp, 4, 3, , float, TT_PLAIN)
#define tt_broadcast_vfp_3 tt_direct_vfp_3
TT_OUTER(vfp, 4, 4, , float, TT_PLAIN)
#define tt_broadcast_vfp_4 tt_direct_vfp_4
TT_OUTER(vfp, 4, 5, , float, TT_PLAIN)
#define tt_broadcast_vfp_5 tt_direct_vfp_5
#endif

TT_DIRECT(vfp, 4, 1, , float, TT_PLAIN)
TT_TILES(vfp, 4, 1, _half, tt_half, tt_half_to_float)
TT_DIRECT(vfp, 4, 2, , float, TT_PLAIN)
TT_TILES(vfp, 4, 2, _half, tt_half, tt_half_to_float)
TT_DIRECT(vfp, 4, 3, , float, TT_PLAIN)
TT_TILES(vfp, 4, 3, _half, tt_half, tt_half_to_float)
TT_DIRECT(vfp, 4, 4, , float, TT_PLAIN)
TT_TILES(vfp, 4, 4, _half, tt_half, tt_half_to_float)
TT_DIRECT(vfp, 4, 5, , float, TT_PLAIN)
TT_TILES(vfp, 4, 5, _half, tt_half, tt_half_to_float)
TT_DEPTH_TILES(vfp, 4, 1, , float, tt_load_scalar)
TT_DEPTH_TILES(vfp, 4, 2, , float, tt_load_scalar)
TT_DEPTH_TILES(vfp, 4, 3, , float, tt_load_scalar)
TT_DEPTH_TILES(vfp, 4, 4, , float, tt_load_scalar)
TT_DEPTH_TILES(vfp, 4, 5, , float, tt_load_scalar)
TT_DEPTH_TILES(vfp, 4, 1, _half, tt_half, tt_load_half_scalar)
TT_DEPTH_TILES(vfp, 4, 2, _half, tt_half, tt_load_half_scalar)
TT_DEPTH_TILES(vfp, 4, 3, _half, tt_half, tt_load_half_scalar)
TT_DEPTH_TILES(vfp, 4, 4, _half, tt_half, tt_load_half_scalar)
TT_DEPTH_TILES(vfp, 4, 5, _half, tt_half, tt_load_half_scalar)

#endif
