/* SPDX-License-Identifier: Apache-2.0 */
/* RISC-V with 32 single-precision registers: up to six times four sums stay in f0..f23 for a whole tile. In C, compilers keep fewer.
 * Elsewhere, and of fp16, the portable tiles stand for these. */
#ifndef TT_SIMD_RVF_H
#define TT_SIMD_RVF_H

#include "tt_simd_one.h"
#include "tt_simd_scalar.h"

/* Tiles of int8 sums are named `bytes`: sums[p][row] = Σ a[p] · b[row], of P patches of x that are widened to floats, `pitch` apart, and four
 * rows of a weight, `length` apart. Floats hold them exactly, as long as they have no more than 2^24 / (255 · 128) steps, and a product and
 * its sum are one instruction there, where integers take two. */
TT_SHARED void tt_widen_rvf(float *to, const int8_t *from, int32_t count, int32_t zero)
{
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        const float a = (float)(from[0] - zero), b = (float)(from[1] - zero), c = (float)(from[2] - zero), d = (float)(from[3] - zero);
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    for (int32_t i = 0; i < count; ++i) {
        to[i] = (float)(from[i] - zero);
    }
}

#define TT_PATCH(p, none) const float *a##p = a + (p) * pitch;
#define tt_v_rvf tt_v_scalar
#define tt_zero_rvf tt_zero_scalar
#define tt_load_rvf tt_load_scalar
#define tt_sums_rvf tt_load_scalar
#define tt_load_half_rvf tt_load_half_scalar
#define tt_store_rvf tt_store_scalar
#define tt_madd_rvf tt_madd_scalar
#define tt_madd_lanes_rvf tt_madd_lanes_scalar
#define tt_splat_rvf tt_splat_scalar
#define tt_add_rvf tt_add_scalar
#define tt_sub_rvf tt_sub_scalar
#define tt_mul_rvf tt_mul_scalar
#define tt_where_rvf tt_where_scalar

#if defined(__riscv_flen) && defined(__OPTIMIZE__) && TT_FUSED

#define TT_F4(X, c0, c1, c2, c3) X(c0) X(c1) X(c2) X(c3)
#define TT_EACH_OF0(X) TT_F4(X, "f0", "f1", "f2", "f3")
#define TT_EACH_OF1(X) TT_F4(X, "f4", "f5", "f6", "f7")
#define TT_EACH_OF2(X) TT_F4(X, "f8", "f9", "f10", "f11")
#define TT_EACH_OF3(X) TT_F4(X, "f12", "f13", "f14", "f15")
#define TT_EACH_OF4(X) TT_F4(X, "f16", "f17", "f18", "f19")
#define TT_EACH_OF5(X) TT_F4(X, "f20", "f21", "f22", "f23")
#define TT_CLEAR(c) "fmv.w.x " c ", zero\n\t"
#define TT_CLEAR_ROW(p, none) TT_EACH_OF##p(TT_CLEAR)

#define TT_MAC4(a, c0, c1, c2, c3) \
    "fmadd.s " c0 ", " a ", f24, " c0 "\n\tfmadd.s " c1 ", " a ", f25, " c1 "\n\tfmadd.s " c2 ", " a ", f26, " c2 "\n\tfmadd.s " c3 ", " a ", f27, " c3 "\n\t"
#define TT_ROW0 TT_MAC4("f28", "f0", "f1", "f2", "f3")
#define TT_ROW1 TT_MAC4("f29", "f4", "f5", "f6", "f7")
#define TT_ROW2 TT_MAC4("f30", "f8", "f9", "f10", "f11")
#define TT_ROW3 TT_MAC4("f31", "f12", "f13", "f14", "f15")
#define TT_ROW4 TT_MAC4("f28", "f16", "f17", "f18", "f19")
#define TT_ROW5 TT_MAC4("f29", "f20", "f21", "f22", "f23")
#define TT_A0 "f28"
#define TT_A1 "f29"
#define TT_A2 "f30"
#define TT_A3 "f31"
#define TT_A4 "f28"
#define TT_A5 "f29"
#define TT_KEEP(p, none) TT_KEEP4(p, TT_KEEP_ROW##p)
#define TT_KEEP4(p, row) TT_KEEP5(p, row)
#define TT_KEEP5(p, c0, c1, c2, c3) \
    "fsw " c0 ", 16*" #p "(%[acc])\n\tfsw " c1 ", 16*" #p "+4(%[acc])\n\tfsw " c2 ", 16*" #p "+8(%[acc])\n\tfsw " c3 ", 16*" #p "+12(%[acc])\n\t"
#define TT_KEEP_ROW0 "f0", "f1", "f2", "f3"
#define TT_KEEP_ROW1 "f4", "f5", "f6", "f7"
#define TT_KEEP_ROW2 "f8", "f9", "f10", "f11"
#define TT_KEEP_ROW3 "f12", "f13", "f14", "f15"
#define TT_KEEP_ROW4 "f16", "f17", "f18", "f19"
#define TT_KEEP_ROW5 "f20", "f21", "f22", "f23"

#define TT_B(at) "flw f24, " at "(%[b])\n\tflw f25, " at "+4(%[b])\n\tflw f26, " at "+8(%[b])\n\tflw f27, " at "+12(%[b])\n\t"
#define TT_RUN(p, at) "flw " TT_A##p ", " at "(%[a" #p "])\n\t" TT_ROW##p
#define TT_STEP_RUN(P, at_b, at_a) TT_B(at_b) TT_P##P(TT_RUN, at_a)
#define TT_MOVE(p, by) "add %[a" #p "], %[a" #p "], " by "\n\t"
#define TT_OPERAND(p, none) [a##p] "+r"(a##p),

#define TT_BROADCAST_RVF(P) \
    TT_SHARED void tt_broadcast_rvf_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, float) \
        int32_t n, cols, rows = w->rows; \
        __asm volatile(TT_P##P(TT_CLEAR_ROW, ) \
                       "blez %[rows], 9f\n" \
                       "1:\n\tmv %[cols], %[all]\n" \
                       "2:\n\taddi %[n], %[steps], -8\n\t" \
                       "bltz %[n], 4f\n" \
                       "3:\n\t" TT_STEP_RUN(P, "0", "0") TT_STEP_RUN(P, "16", "4") TT_STEP_RUN(P, "32", "8") TT_STEP_RUN(P, "48", "12") \
                       TT_STEP_RUN(P, "64", "16") TT_STEP_RUN(P, "80", "20") TT_STEP_RUN(P, "96", "24") TT_STEP_RUN(P, "112", "28") \
                       "addi %[b], %[b], 128\n\t" TT_P##P(TT_MOVE, "32") \
                       "addi %[n], %[n], -8\n\t" \
                       "bgez %[n], 3b\n" \
                       "4:\n\taddi %[n], %[n], 8\n\t" \
                       "beqz %[n], 6f\n" \
                       "5:\n\t" TT_STEP_RUN(P, "0", "0") \
                       "addi %[b], %[b], 16\n\t" TT_P##P(TT_MOVE, "4") \
                       "addi %[n], %[n], -1\n\t" \
                       "bnez %[n], 5b\n" \
                       "6:\n\taddi %[cols], %[cols], -1\n\t" \
                       "beqz %[cols], 7f\n\t" \
                       "add %[b], %[b], %[b_col]\n\t" TT_P##P(TT_MOVE, "%[a_col]") \
                       "j 2b\n" \
                       "7:\n\tadd %[b], %[b], %[b_row]\n\t" TT_P##P(TT_MOVE, "%[a_row]") \
                       "addi %[rows], %[rows], -1\n\t" \
                       "bnez %[rows], 1b\n" \
                       "9:\n\t" TT_P##P(TT_KEEP, ) \
                       : TT_P##P(TT_OPERAND, ) [b] "+r"(b), [rows] "+r"(rows), [n] "=&r"(n), [cols] "=&r"(cols) \
                       : [acc] "r"(acc), [all] "r"(w->cols), [steps] "r"(w->steps), [a_col] "r"(4 * w->a_col), [a_row] "r"(4 * w->a_row), \
                         [b_col] "r"(4 * w->b_col), [b_row] "r"(4 * w->b_row) \
                       : "memory", TT_SINGLES); \
    }

#define TT_NEXT_A(p, none) "flw " TT_A##p ", 4*" #p "(%[a])\n\t" TT_ROW##p
#define TT_WIDE(p, none) \
    "flw f24, 16*" #p "(%[b])\n\tflw f25, 16*" #p "+4(%[b])\n\tflw f26, 16*" #p "+8(%[b])\n\tflw f27, 16*" #p "+12(%[b])\n\t" TT_WIDE_ROW##p
#define TT_WIDE_ROW0 TT_MAC4("f28", "f0", "f1", "f2", "f3")
#define TT_WIDE_ROW1 TT_MAC4("f28", "f4", "f5", "f6", "f7")
#define TT_WIDE_ROW2 TT_MAC4("f28", "f8", "f9", "f10", "f11")
#define TT_WIDE_ROW3 TT_MAC4("f28", "f12", "f13", "f14", "f15")
#define TT_WIDE_ROW4 TT_MAC4("f28", "f16", "f17", "f18", "f19")
#define TT_WIDE_ROW5 TT_MAC4("f28", "f20", "f21", "f22", "f23")
#define TT_STEP_WIDE(P) "flw f28, 0(%[a])\n\t" TT_P##P(TT_WIDE, ) "add %[a], %[a], %[a_step]\n\tadd %[b], %[b], %[b_step]\n\t"
#define TT_STEP_ACROSS(P) TT_B("0") TT_P##P(TT_NEXT_A, ) "add %[a], %[a], %[a_step]\n\tadd %[b], %[b], %[b_step]\n\t"

/* One step of `depth`: P times four a, and four b that they share. */
#define TT_DEEP(p, none) \
    "flw f28, 0(%[a" #p "])\n\tflw f29, 4(%[a" #p "])\n\tflw f30, 8(%[a" #p "])\n\tflw f31, 12(%[a" #p "])\n\t" \
    TT_DEEP4(TT_KEEP_ROW##p) "add %[a" #p "], %[a" #p "], %[a_step]\n\t"
#define TT_DEEP4(row) TT_DEEP5(row)
#define TT_DEEP5(c0, c1, c2, c3) \
    "fmadd.s " c0 ", f28, f24, " c0 "\n\tfmadd.s " c1 ", f29, f25, " c1 "\n\tfmadd.s " c2 ", f30, f26, " c2 "\n\tfmadd.s " c3 ", f31, f27, " c3 "\n\t"

#define TT_DEPTH_RVF(P) \
    TT_SHARED void tt_depth_rvf_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, float) \
        int32_t n, rows = w->rows; \
        __asm volatile(TT_P##P(TT_CLEAR_ROW, ) \
                       "blez %[rows], 9f\n" \
                       "1:\n\tmv %[n], %[steps]\n" \
                       "2:\n\t" TT_B("0") TT_P##P(TT_DEEP, ) \
                       "add %[b], %[b], %[b_step]\n\t" \
                       "addi %[n], %[n], -1\n\t" \
                       "bnez %[n], 2b\n\t" \
                       "add %[b], %[b], %[b_row]\n\t" TT_P##P(TT_MOVE, "%[a_row]") \
                       "addi %[rows], %[rows], -1\n\t" \
                       "bnez %[rows], 1b\n" \
                       "9:\n\t" TT_P##P(TT_KEEP, ) \
                       : TT_P##P(TT_OPERAND, ) [b] "+r"(b), [rows] "+r"(rows), [n] "=&r"(n) \
                       : [acc] "r"(acc), [steps] "r"(w->steps), [a_step] "r"(4 * w->a_step), [b_step] "r"(4 * w->b_step), \
                         [a_row] "r"(4 * w->a_row), [b_row] "r"(4 * w->b_row) \
                       : "memory", TT_SINGLES); \
    }

#define TT_ACROSS_RVF(name, P, step) \
    TT_SHARED void name##_rvf_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        int32_t n, rows = w->steps > 0 ? w->rows : 0; \
        __asm volatile(TT_P##P(TT_CLEAR_ROW, ) \
                       "blez %[rows], 9f\n" \
                       "1:\n\taddi %[n], %[steps], -2\n\t" \
                       "bltz %[n], 4f\n" \
                       "3:\n\t" step step \
                       "addi %[n], %[n], -2\n\t" \
                       "bgez %[n], 3b\n" \
                       "4:\n\taddi %[n], %[n], 1\n\t" \
                       "bltz %[n], 6f\n\t" step \
                       "6:\n\tadd %[a], %[a], %[a_row]\n\t" \
                       "add %[b], %[b], %[b_row]\n\t" \
                       "addi %[rows], %[rows], -1\n\t" \
                       "bnez %[rows], 1b\n" \
                       "9:\n\t" TT_P##P(TT_KEEP, ) \
                       : [a] "+r"(a), [b] "+r"(b), [rows] "+r"(rows), [n] "=&r"(n) \
                       : [acc] "r"(acc), [steps] "r"(w->steps), [a_step] "r"(4 * w->a_step), [b_step] "r"(4 * w->b_step), \
                         [a_row] "r"(4 * w->a_row), [b_row] "r"(4 * w->b_row) \
                       : "memory", TT_SINGLES); \
    }

/* One step of `bytes`: a weight of each of four rows, widened as it is read, times P elements of a. */
#define TT_EARLY(p, at) TT_EARLY##p(at)
#define TT_LOAD_A(p, at) "flw " TT_A##p ", " at "(%[a" #p "])\n\t"
#define TT_EARLY0(at) TT_LOAD_A(0, at)
#define TT_EARLY1(at) TT_LOAD_A(1, at)
#define TT_EARLY2(at) TT_LOAD_A(2, at)
#define TT_EARLY3(at) TT_LOAD_A(3, at)
#define TT_EARLY4(at)
#define TT_EARLY5(at)
#define TT_LATE(p, at) TT_LATE##p(at) TT_ROW##p
#define TT_LATE0(at)
#define TT_LATE1(at)
#define TT_LATE2(at)
#define TT_LATE3(at)
#define TT_LATE4(at) TT_LOAD_A(4, at)
#define TT_LATE5(at) TT_LOAD_A(5, at)
#define TT_STEP_BYTES(P, at_b, at_a) \
    "lb %[w0], " at_b "(%[b0])\n\tlb %[w1], " at_b "(%[b1])\n\tlb %[w2], " at_b "(%[b2])\n\tlb %[w3], " at_b "(%[b3])\n\t" TT_P##P(TT_EARLY, at_a) \
    "fcvt.s.w f24, %[w0]\n\tfcvt.s.w f25, %[w1]\n\tfcvt.s.w f26, %[w2]\n\tfcvt.s.w f27, %[w3]\n\t" TT_P##P(TT_LATE, at_a)
#define TT_MOVE_B(by) "addi %[b0], %[b0], " by "\n\taddi %[b1], %[b1], " by "\n\taddi %[b2], %[b2], " by "\n\taddi %[b3], %[b3], " by "\n\t"
#define TT_WHOLE(p, none) TT_WHOLE4(p, TT_KEEP_ROW##p)
#define TT_WHOLE4(p, row) TT_WHOLE5(p, row)
#define TT_WHOLE5(p, c0, c1, c2, c3) \
    "fcvt.w.s %[w0], " c0 ", rtz\n\tfcvt.w.s %[w1], " c1 ", rtz\n\tfcvt.w.s %[w2], " c2 ", rtz\n\tfcvt.w.s %[w3], " c3 ", rtz\n\t" \
    "sw %[w0], 16*" #p "(%[sums])\n\tsw %[w1], 16*" #p "+4(%[sums])\n\tsw %[w2], 16*" #p "+8(%[sums])\n\tsw %[w3], 16*" #p "+12(%[sums])\n\t"

#define TT_BYTES_RVF(P) \
    TT_SHARED void tt_bytes_rvf_##P(int32_t *sums, const float *a, int32_t pitch, const int8_t *b, int32_t length, int32_t steps) \
    { \
        TT_P##P(TT_PATCH, ) \
        const int8_t *b0 = b, *b1 = b0 + length, *b2 = b1 + length, *b3 = b2 + length; \
        int32_t n, w0, w1, w2, w3; \
        __asm volatile(TT_P##P(TT_CLEAR_ROW, ) \
                       "addi %[n], %[steps], -8\n\t" \
                       "bltz %[n], 4f\n" \
                       "3:\n\t" TT_STEP_BYTES(P, "0", "0") TT_STEP_BYTES(P, "1", "4") TT_STEP_BYTES(P, "2", "8") TT_STEP_BYTES(P, "3", "12") \
                       TT_STEP_BYTES(P, "4", "16") TT_STEP_BYTES(P, "5", "20") TT_STEP_BYTES(P, "6", "24") TT_STEP_BYTES(P, "7", "28") \
                       TT_MOVE_B("8") TT_P##P(TT_MOVE, "32") \
                       "addi %[n], %[n], -8\n\t" \
                       "bgez %[n], 3b\n" \
                       "4:\n\taddi %[n], %[n], 8\n\t" \
                       "beqz %[n], 6f\n" \
                       "5:\n\t" TT_STEP_BYTES(P, "0", "0") \
                       TT_MOVE_B("1") TT_P##P(TT_MOVE, "4") \
                       "addi %[n], %[n], -1\n\t" \
                       "bnez %[n], 5b\n" \
                       "6:\n\t" TT_P##P(TT_WHOLE, ) \
                       : TT_P##P(TT_OPERAND, ) [b0] "+r"(b0), [b1] "+r"(b1), [b2] "+r"(b2), [b3] "+r"(b3), [n] "=&r"(n), \
                         [w0] "=&r"(w0), [w1] "=&r"(w1), [w2] "=&r"(w2), [w3] "=&r"(w3) \
                       : [sums] "r"(sums), [steps] "r"(steps) \
                       : "memory", TT_SINGLES); \
    }

#define TT_SINGLES \
    "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14", "f15", "f16", "f17", "f18", "f19", \
        "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28", "f29", "f30", "f31"

#define TT_ALL_RVF(none, P) \
    TT_BROADCAST_RVF(P) \
    TT_DIRECT(rvf, 4, P, , float, TT_PLAIN, float, tt_load_rvf) \
    TT_ACROSS_RVF(tt_outer, P, TT_STEP_ACROSS(P)) \
    TT_ACROSS_RVF(tt_wide, P, TT_STEP_WIDE(P)) \
    TT_DEPTH_RVF(P) \
    TT_BYTES_RVF(P) \
    TT_ACROSS(tt_depth_outer, rvf, 4, P, float, TT_MADD_PAIR, rvf, 4, tt_load_scalar)
TT_SIZES6(TT_ALL_RVF, )
#else
TT_SIZES6(TT_FLOAT_TILES, rvf, 4)
TT_SIZES6(TT_PACKED_TILE, rvf)

#define TT_BYTES_C(none, P) \
    TT_SHARED void tt_bytes_rvf_##P(int32_t *sums, const float *a, int32_t pitch, const int8_t *b, int32_t length, int32_t steps) \
    { \
        for (int32_t i = 0; i < 4 * P; ++i) { \
            float sum = 0.0f; \
            for (int32_t step = 0; step < steps; ++step) { \
                sum += a[i / 4 * pitch + step] * b[i % 4 * length + step]; \
            } \
            sums[i] = (int32_t)sum; \
        } \
    }
TT_SIZES6(TT_BYTES_C, )
#endif

TT_SIZES6(TT_HALF_TILES, rvf, 4)

#endif
