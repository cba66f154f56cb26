/* SPDX-License-Identifier: Apache-2.0 */
/* Cortex-M with 32 single-precision registers: up to five times four sums stay in s0..s19 for a whole tile, and one VLDM brings the operands
 * of two steps. In C, a compiler loads each operand by itself. Elsewhere the portable tiles stand for these. */
#ifndef TT_SIMD_VFP_H
#define TT_SIMD_VFP_H

#include "tt_simd_scalar.h"
#include <stddef.h>

#define tt_v_vfp tt_v_scalar
#define tt_zero_vfp tt_zero_scalar
#define tt_splat_vfp tt_splat_scalar
#define tt_load_half_vfp tt_load_half_scalar
#define tt_madd_vfp tt_madd_scalar
#define tt_madd_lanes_vfp tt_madd_lanes_scalar
#define tt_add_vfp tt_add_scalar
#define tt_sub_vfp tt_sub_scalar
#define tt_mul_vfp tt_mul_scalar
#define tt_where_vfp tt_where_scalar
#define tt_settled_vfp tt_settled_scalar

#if defined(__ARM_FP) && defined(__thumb__) && defined(__OPTIMIZE__)

/* Four sums. Unfused, no sum reads a product right behind it: on a Cortex-M4 that would cost a cycle. */
#if TT_FUSED
#define tt_load_vfp tt_load_scalar
#define tt_sums_vfp tt_load_scalar
#define tt_store_vfp tt_store_scalar
#define TT_MAC1(c, a, b) "vfma.f32 " c ", " a ", " b "\n\t"
#define TT_MAC2(c0, c1, a0, a1, b0, b1) TT_MAC1(c0, a0, b0) TT_MAC1(c1, a1, b1)
#define TT_MAC4(c0, c1, c2, c3, a0, a1, a2, a3, b0, b1, b2, b3) \
    TT_MAC2(c0, c1, a0, a1, b0, b1) TT_MAC2(c2, c3, a2, a3, b2, b3)
#else
/* One instruction for four neighbours. The list of VLDM and VSTM has registers in a row: those of sums, which are stored again, and others
 * for what they are combined with. A core that issues a load beside arithmetic is quicker with four instructions. */
#define TT_FOUR_SINGLES(r0, r1, r2, r3, v0, v1, v2, v3) \
    register float f0 __asm(r0) v0; \
    register float f1 __asm(r1) v1; \
    register float f2 __asm(r2) v2; \
    register float f3 __asm(r3) v3;
#define TT_LOAD_SINGLES(name, r0, r1, r2, r3) \
    static inline tt_v_vfp name(const float *from) \
    { \
        TT_FOUR_SINGLES(r0, r1, r2, r3, , , , ) \
        __asm("vldmia %4, {%0-%3}" : "=t"(f0), "=t"(f1), "=t"(f2), "=t"(f3) : "r"(from), "m"(*(const float(*)[4])from)); \
        const tt_v_vfp v = { f0, f1, f2, f3 }; \
        return v; \
    }
TT_LOAD_SINGLES(tt_sums_vfp, "s20", "s21", "s22", "s23")
TT_LOAD_SINGLES(tt_load_vfp, "s24", "s25", "s26", "s27")

static inline void tt_store_vfp(float *to, tt_v_vfp v)
{
    TT_FOUR_SINGLES("s20", "s21", "s22", "s23", = v.f0, = v.f1, = v.f2, = v.f3)
    __asm("vstmia %5, {%1-%4}" : "=m"(*(float(*)[4])to) : "t"(f0), "t"(f1), "t"(f2), "t"(f3), "r"(to));
}

#define TT_MAC1(c, a, b) "vmul.f32 s30, " a ", " b "\n\tvadd.f32 " c ", " c ", s30\n\t"
#define TT_MAC2(c0, c1, a0, a1, b0, b1) \
    "vmul.f32 s30, " a0 ", " b0 "\n\tvmul.f32 s31, " a1 ", " b1 "\n\tvadd.f32 " c0 ", " c0 ", s30\n\tvadd.f32 " c1 ", " c1 ", s31\n\t"
#define TT_MAC4(c0, c1, c2, c3, a0, a1, a2, a3, b0, b1, b2, b3) TT_MAC2(c0, c1, a0, a1, b0, b1) TT_MAC2(c2, c3, a2, a3, b2, b3)
#endif

/* The sums of operand p: of one a, or of four. */
#define TT_ROW(p, a, b0, b1, b2, b3) TT_LANES_OF##p(a, a, a, a, b0, b1, b2, b3)
#define TT_LANES_OF0(...) TT_CALL(TT_MAC4, "s0", "s1", "s2", "s3", __VA_ARGS__)
#define TT_LANES_OF1(...) TT_CALL(TT_MAC4, "s4", "s5", "s6", "s7", __VA_ARGS__)
#define TT_LANES_OF2(...) TT_CALL(TT_MAC4, "s8", "s9", "s10", "s11", __VA_ARGS__)
#define TT_LANES_OF3(...) TT_CALL(TT_MAC4, "s12", "s13", "s14", "s15", __VA_ARGS__)
#define TT_LANES_OF4(...) TT_CALL(TT_MAC4, "s16", "s17", "s18", "s19", __VA_ARGS__)
#define TT_CALL(macro, ...) macro(__VA_ARGS__)

#define TT_STEP1(p, none) "vldmia %[a" #p "]!, {s28}\n\t" TT_ROW(p, "s28", "s20", "s21", "s22", "s23")
#define TT_GO_ON(p, by) "add %[a" #p "], %[a" #p "], %[t], lsl #" by "\n\t"
#define TT_OPERAND(p, none) [a##p] "+&r"(a##p),
#define TT_ONE(P, load) load##_1 TT_P##P(TT_STEP1, )
#define TT_TWO(P, load) load##_2 TT_P##P(TT_STEPS2, ) TT_BEFORE(P)
#define TT_PACKED_1 "vldmia %[b]!, {s20-s23}\n\t"
#define TT_PACKED_2 "vldmia %[b]!, {s20-s27}\n\t"
#define TT_APART_1 "vldmia %[b], {s20-s23}\n\tadd %[b], %[b], %[b_step], lsl #2\n\t"
#define TT_APART_2 TT_APART_1 "vldmia %[b], {s24-s27}\n\tadd %[b], %[b], %[b_step], lsl #2\n\t"

static const float tt_zeros[20] = { 0 };

/* Two steps of row p. Fused, what the next row reads is loaded before the products of this one, which then do not wait; and eight steps of the
 * largest tile load each a by itself, which such a core does beside a product. */
#if TT_FUSED
#define TT_STEPS2(p, none) "vldmia %[a" #p "]!, {" TT_FIRST##p "-" TT_SECOND##p "}\n\t" TT_BEFORE(p)
#define TT_FIRST0 "s28"
#define TT_FIRST1 "s30"
#define TT_FIRST2 "s28"
#define TT_FIRST3 "s30"
#define TT_FIRST4 "s28"
#define TT_SECOND0 "s29"
#define TT_SECOND1 "s31"
#define TT_SECOND2 "s29"
#define TT_SECOND3 "s31"
#define TT_SECOND4 "s29"
#define TT_BESIDE(p, at) \
    "vldr " TT_FIRST##p ", [%[a" #p "], #" at "]\n\t" TT_EARLIER##p "vldr " TT_SECOND##p ", [%[a" #p "], #" at " + 4]\n\t" TT_LATER##p
#define TT_EARLIER0
#define TT_EARLIER1 TT_ROW(0, TT_FIRST0, "s20", "s21", "s22", "s23")
#define TT_EARLIER2 TT_ROW(1, TT_FIRST1, "s20", "s21", "s22", "s23")
#define TT_EARLIER3 TT_ROW(2, TT_FIRST2, "s20", "s21", "s22", "s23")
#define TT_EARLIER4 TT_ROW(3, TT_FIRST3, "s20", "s21", "s22", "s23")
#define TT_EARLIER5 TT_ROW(4, TT_FIRST4, "s20", "s21", "s22", "s23")
#define TT_LATER0
#define TT_LATER1 TT_ROW(0, TT_SECOND0, "s24", "s25", "s26", "s27")
#define TT_LATER2 TT_ROW(1, TT_SECOND1, "s24", "s25", "s26", "s27")
#define TT_LATER3 TT_ROW(2, TT_SECOND2, "s24", "s25", "s26", "s27")
#define TT_LATER4 TT_ROW(3, TT_SECOND3, "s24", "s25", "s26", "s27")
#define TT_LATER5 TT_ROW(4, TT_SECOND4, "s24", "s25", "s26", "s27")
#define TT_BEFORE(p) TT_EARLIER##p TT_LATER##p
#define TT_PAIR(P, load, at) load##_2 TT_P##P(TT_BESIDE, at) TT_BEFORE(P)
#define TT_EIGHT_ON(p, none) "add %[a" #p "], %[a" #p "], #32\n\t"
#define TT_LARGEST(P, load) TT_PAIR(P, load, "0") TT_PAIR(P, load, "8") TT_PAIR(P, load, "16") TT_PAIR(P, load, "24") TT_P##P(TT_EIGHT_ON, )
#else
#define TT_LARGEST TT_EIGHT
#define TT_STEPS2(p, none) \
    "vldmia %[a" #p "]!, {s28-s29}\n\t" TT_ROW(p, "s28", "s20", "s21", "s22", "s23") TT_ROW(p, "s29", "s24", "s25", "s26", "s27")
#define TT_BEFORE(p)
#endif

/* Packed, b has its steps right behind each other; else they are b_step apart. `many` are the `turn` steps of a turn of the loop: the most
 * frequent tiles have long ones. */
#define TT_EIGHT(P, load) TT_TWO(P, load) TT_TWO(P, load) TT_TWO(P, load) TT_TWO(P, load)
#define TT_FOUR(P, load) TT_TWO(P, load) TT_TWO(P, load)
#define TT_RUNS_VFP(name, P, last, load, turn, many) \
    TT_RUNS_OF(name, P, last, float, "2", float, "2", TT_ONE(P, load), TT_TWO(P, load), turn, many(P, load))
#define TT_RUNS_OF(name, P, last, type_a, by_a, type_b, by_b, one, two, turn, many) \
    TT_SHARED void name##_vfp_##P(float *acc, const type_a *a, const type_b *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, type_a) \
        int32_t n, cols, rows = w->rows; \
        uint32_t t = (uint32_t)tt_zeros; \
        __asm volatile("vldmia %[t], {s0-" last "}\n\t" \
                       "cmp %[rows], #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tldr %[cols], [%[w], %[at_cols]]\n" \
                       "2:\n\tldr %[n], [%[w], %[at_steps]]\n\t" \
                       "subs %[n], %[n], #" turn "\n\t" \
                       "blt 4f\n" \
                       "3:\n\t" many \
                       "subs %[n], %[n], #" turn "\n\t" \
                       "bge 3b\n" \
                       "4:\n\tadds %[n], %[n], #" turn " - 2\n\t" \
                       "blt 5f\n" \
                       "4:\n\t" two \
                       "subs %[n], %[n], #2\n\t" \
                       "bge 4b\n" \
                       "5:\n\tlsls %[t], %[n], #31\n\t" /* negative: one step is left */ \
                       "bpl 6f\n\t" \
                       one \
                       "6:\n\tsubs %[cols], %[cols], #1\n\t" \
                       "beq 7f\n\t" \
                       "ldr %[t], [%[w], %[at_a_col]]\n\t" \
                       "ldr %[n], [%[w], %[at_b_col]]\n\t" \
                       "add %[b], %[b], %[n], lsl #" by_b "\n\t" TT_P##P(TT_GO_ON, by_a) \
                       "b 2b\n" \
                       "7:\n\tldr %[t], [%[w], %[at_a_row]]\n\t" \
                       "ldr %[n], [%[w], %[at_b_row]]\n\t" \
                       "add %[b], %[b], %[n], lsl #" by_b "\n\t" TT_P##P(TT_GO_ON, by_a) \
                       "subs %[rows], %[rows], #1\n\t" \
                       "bne 1b\n" \
                       "9:\n\tvstmia %[acc], {s0-" last "}" \
                       : TT_P##P(TT_OPERAND, ) [b] "+&r"(b), [rows] "+&r"(rows), [t] "+&r"(t), [n] "=&r"(n), [cols] "=&r"(cols) \
                       : [w] "r"(w), [acc] "r"(acc), [b_step] "r"(w->b_step), TT_WALK_AT \
                       : "cc", "memory", TT_SINGLES); \
    }

/* One step of `outer`: P neighbours a, four neighbours b. */
#define TT_NEXT_A(p, none) TT_ROW(p, TT_A##p, "s25", "s26", "s27", "s28")
#define TT_A0 "s20"
#define TT_A1 "s21"
#define TT_A2 "s22"
#define TT_A3 "s23"
#define TT_A4 "s24"
#define TT_STEP_VFP(P) \
    "vldmia %[a], {" TT_A_LIST(P) "}\n\tvldmia %[b], {s25-s28}\n\t" \
    TT_BOTH_GO_ON TT_P##P(TT_NEXT_A, )
#define TT_A_LIST(P) TT_A_LIST##P
#define TT_A_LIST1 "s20"
#define TT_A_LIST2 "s20-s21"
#define TT_A_LIST3 "s20-s22"
#define TT_A_LIST4 "s20-s23"
#define TT_A_LIST5 "s20-s24"

/* What does not fill a turn of two, or of four steps, comes first. */
#define TT_IN_TWOS(step) "lsrs %[n], %[n], #1\n\tbcc 2f\n\t" step "2:\n\tbeq 4f\n3:\n\t" step step
#define TT_IN_FOURS(step) "lsrs %[n], %[n], #1\n\tbcc 2f\n\t" step "2:\n\tlsrs %[n], %[n], #1\n\tbcc 2f\n\t" step step "2:\n\tbeq 4f\n3:\n\t" step step step step

/* From the sums that `begin` points to on. A step leaves b `read` elements further. */
#define TT_ACROSS_VFP(name, P, last, read, turns) TT_ACROSS_OF(name, P, last, tt_zeros, float, "2", read, turns)
#define TT_ACROSS_OF(name, P, last, begin, type, by, read, turns) \
    TT_SHARED void name##_vfp_##P(float *acc, const type *a, const type *b, const tt_walk *w) \
    { \
        const int32_t a_step = w->a_step, b_step = w->b_step - (read); \
        int32_t t, n, rows = w->steps > 0 ? w->rows : 0; \
        __asm volatile("vldmia %[from], {s0-" last "}\n\t" \
                       "cmp %[rows], #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tldr %[n], [%[w], %[at_steps]]\n\t" \
                       turns \
                       "subs %[n], %[n], #1\n\t" \
                       "bne 3b\n" \
                       "4:\n\tldr %[t], [%[w], %[at_a_row]]\n\t" \
                       "ldr %[n], [%[w], %[at_b_row]]\n\t" \
                       "add %[a], %[a], %[t], lsl #" by "\n\t" \
                       "add %[b], %[b], %[n], lsl #" by "\n\t" \
                       "subs %[rows], %[rows], #1\n\t" \
                       "bne 1b\n" \
                       "9:\n\tvstmia %[acc], {s0-" last "}" \
                       : [a] "+&r"(a), [b] "+&r"(b), [rows] "+&r"(rows), [t] "=&r"(t), [n] "=&r"(n) \
                       : [w] "r"(w), [acc] "r"(acc), [from] "r"(begin), [a_step] "r"(a_step), [b_step] "r"(b_step), TT_WALK_AT \
                       : "cc", "memory", TT_SINGLES); \
    }

/* One step of `depth`: P times four a, and four b that they share. */
#define TT_DEEP(p, none) \
    "vldmia %[a" #p "], {s24-s27}\n\tadd %[a" #p "], %[a" #p "], %[a_step], lsl #2\n\t" \
    TT_LANES_OF##p("s24", "s25", "s26", "s27", "s20", "s21", "s22", "s23")

#define TT_DEPTH_VFP(P, last) \
    TT_SHARED void tt_depth_vfp_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, float) \
        int32_t n, rows = w->rows; \
        uint32_t t = (uint32_t)tt_zeros; \
        __asm volatile("vldmia %[t], {s0-" last "}\n\t" \
                       "cmp %[rows], #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tldr %[n], [%[w], %[at_steps]]\n" \
                       "2:\n\t" TT_APART_1 TT_P##P(TT_DEEP, ) \
                       "subs %[n], %[n], #1\n\t" \
                       "bne 2b\n\t" \
                       "ldr %[t], [%[w], %[at_a_row]]\n\t" \
                       "ldr %[n], [%[w], %[at_b_row]]\n\t" \
                       "add %[b], %[b], %[n], lsl #2\n\t" TT_P##P(TT_GO_ON, "2") \
                       "subs %[rows], %[rows], #1\n\t" \
                       "bne 1b\n" \
                       "9:\n\tvstmia %[acc], {s0-" last "}" \
                       : TT_P##P(TT_OPERAND, ) [b] "+&r"(b), [rows] "+&r"(rows), [t] "+&r"(t), [n] "=&r"(n) \
                       : [w] "r"(w), [acc] "r"(acc), [a_step] "r"(w->a_step), [b_step] "r"(w->b_step), TT_WALK_AT \
                       : "cc", "memory", TT_SINGLES); \
    }

/* One step of `depth_outer`: P times four a and b. */
#define TT_PAIR_1 \
    "vldmia %[a], {s8-s11}\n\tvldmia %[b], {s16-s19}\n\t" TT_BOTH_GO_ON TT_LANES_OF0("s8", "s9", "s10", "s11", "s16", "s17", "s18", "s19")
#define TT_PAIR_2 \
    "vldmia %[a], {s8-s15}\n\tvldmia %[b], {s16-s23}\n\t" TT_BOTH_GO_ON TT_LANES_OF0("s8", "s9", "s10", "s11", "s16", "s17", "s18", "s19") \
    TT_LANES_OF1("s12", "s13", "s14", "s15", "s20", "s21", "s22", "s23")
/* One step of `wide`: one a, P times four b. */
#define TT_WIDE(p, none) "vldmia %[b]!, {s20-s23}\n\t" TT_ROW(p, "s24", "s20", "s21", "s22", "s23")
#define TT_WIDE_STEP(P) "vldmia %[a], {s24}\n\t" TT_P##P(TT_WIDE, ) TT_BOTH_GO_ON
#define TT_BOTH_GO_ON "add %[a], %[a], %[a_step], lsl #2\n\tadd %[b], %[b], %[b_step], lsl #2\n\t"

/* `dot`: of each row four steps at once. */
#define TT_DOT_LOAD4(p, none) "vldmia %[a" #p "]!, {" TT_DOT_ROW##p "}\n\t"
#define TT_DOT_LOAD1(p, none) "vldmia %[a" #p "]!, {" TT_DOT_FIRST##p "}\n\t"
#define TT_DOT_ROW0 "s4-s7"
#define TT_DOT_ROW1 "s8-s11"
#define TT_DOT_ROW2 "s12-s15"
#define TT_DOT_ROW3 "s16-s19"
#define TT_DOT_FIRST0 "s4"
#define TT_DOT_FIRST1 "s8"
#define TT_DOT_FIRST2 "s12"
#define TT_DOT_FIRST3 "s16"
#define TT_DOT_STEP1(b, a0, a1, a2, a3) TT_MAC1("s0", a0, b)
#define TT_DOT_STEP2(b, a0, a1, a2, a3) TT_MAC2("s0", "s1", a0, a1, b, b)
#define TT_DOT_STEP3(b, a0, a1, a2, a3) TT_MAC2("s0", "s1", a0, a1, b, b) TT_MAC1("s2", a2, b)
#define TT_DOT_STEP4(b, a0, a1, a2, a3) TT_MAC4("s0", "s1", "s2", "s3", a0, a1, a2, a3, b, b, b, b)
#define TT_DOT_FOUR(P) \
    "vldmia %[b]!, {s20-s23}\n\t" TT_P##P(TT_DOT_LOAD4, ) \
    TT_DOT_STEP##P("s20", "s4", "s8", "s12", "s16") TT_DOT_STEP##P("s21", "s5", "s9", "s13", "s17") \
    TT_DOT_STEP##P("s22", "s6", "s10", "s14", "s18") TT_DOT_STEP##P("s23", "s7", "s11", "s15", "s19")
/* Unfused, four steps are long enough for a turn. */
#if TT_FUSED
#define TT_DOT_TURN "8"
#define TT_DOT_MANY(P) TT_DOT_FOUR(P) TT_DOT_FOUR(P)
#else
#define TT_DOT_TURN "4"
#define TT_DOT_MANY(P) TT_DOT_FOUR(P)
#endif
#define TT_DOT_VFP(P, sums) \
    TT_SHARED void tt_dot_vfp_##P(float *acc, const float *a, const float *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, float) \
        int32_t n = w->steps; \
        __asm volatile("vldmia %[zeros], {" sums "}\n\t" \
                       "subs %[n], %[n], #" TT_DOT_TURN "\n\t" \
                       "blt 2f\n" \
                       "1:\n\t" TT_DOT_MANY(P) \
                       "subs %[n], %[n], #" TT_DOT_TURN "\n\t" \
                       "bge 1b\n" \
                       "2:\n\tadds %[n], %[n], #" TT_DOT_TURN "\n\t" \
                       "beq 4f\n" \
                       "3:\n\tvldmia %[b]!, {s20}\n\t" TT_P##P(TT_DOT_LOAD1, ) TT_DOT_STEP##P("s20", "s4", "s8", "s12", "s16") \
                       "subs %[n], %[n], #1\n\t" \
                       "bne 3b\n" \
                       "4:\n\tvstmia %[acc], {" sums "}" \
                       : TT_P##P(TT_OPERAND, ) [b] "+&r"(b), [n] "+&r"(n) \
                       : [acc] "r"(acc), [zeros] "r"(tt_zeros) \
                       : "cc", "memory", TT_SINGLES); \
    }

#define TT_WALK_AT \
    [at_cols] "J"(offsetof(tt_walk, cols)), [at_steps] "J"(offsetof(tt_walk, steps)), [at_a_col] "J"(offsetof(tt_walk, a_col)), \
        [at_a_row] "J"(offsetof(tt_walk, a_row)), [at_b_col] "J"(offsetof(tt_walk, b_col)), [at_b_row] "J"(offsetof(tt_walk, b_row))
#define TT_SINGLES \
    "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "s16", "s17", "s18", "s19", \
        "s20", "s21", "s22", "s23", "s24", "s25", "s26", "s27", "s28", "s29", "s30", "s31"

#define TT_LAST1 "s3"
#define TT_LAST2 "s7"
#define TT_LAST3 "s11"
#define TT_LAST4 "s15"
#define TT_LAST5 "s19"
#define TT_ALL_VFP(none, P) \
    TT_RUNS_VFP(tt_direct, P, TT_LAST##P, TT_APART, "2", TT_TWO) \
    TT_ACROSS_VFP(tt_outer, P, TT_LAST##P, 0, TT_IN_FOURS(TT_STEP_VFP(P))) \
    TT_ACROSS_OF(tt_outer_on, P, TT_LAST##P, acc, float, "2", 0, TT_IN_FOURS(TT_STEP_VFP(P))) \
    TT_ACROSS_VFP(tt_wide, P, TT_LAST##P, 4 * P, TT_IN_TWOS(TT_WIDE_STEP(P))) \
    TT_DEPTH_VFP(P, TT_LAST##P)
TT_SIZES5(TT_ALL_VFP, )
TT_DOT_VFP(1, "s0")
TT_DOT_VFP(2, "s0-s1")
TT_DOT_VFP(3, "s0-s2")
TT_DOT_VFP(4, "s0-s3")
TT_RUNS_VFP(tt_broadcast, 1, TT_LAST1, TT_PACKED, "4", TT_FOUR)
TT_RUNS_VFP(tt_broadcast, 2, TT_LAST2, TT_PACKED, "4", TT_FOUR)
TT_RUNS_VFP(tt_broadcast, 3, TT_LAST3, TT_PACKED, "4", TT_FOUR)
TT_RUNS_VFP(tt_broadcast, 4, TT_LAST4, TT_PACKED, "8", TT_EIGHT)
TT_RUNS_VFP(tt_broadcast, 5, TT_LAST5, TT_PACKED, "8", TT_LARGEST)
TT_ACROSS_VFP(tt_depth_outer, 1, TT_LAST1, 0, TT_IN_TWOS(TT_PAIR_1))
TT_ACROSS_VFP(tt_depth_outer, 2, TT_LAST2, 0, TT_IN_TWOS(TT_PAIR_2))
#include "tt_simd_vfp_halves.h"

/* Sums of eight columns over rows of x, a row or more, from one to the next `pitch` floats. */
static inline void tt_columns_vfp(float *acc, const float *x, int32_t rows, int32_t pitch)
{
    __asm volatile("vldmia %[zeros], {s0-s7}\n"
                   "1:\n\tvldmia %[x], {s8-s15}\n\t"
                   "add %[x], %[x], %[pitch], lsl #2\n\t"
                   "vadd.f32 s0, s0, s8\n\tvadd.f32 s1, s1, s9\n\tvadd.f32 s2, s2, s10\n\tvadd.f32 s3, s3, s11\n\t"
                   "vadd.f32 s4, s4, s12\n\tvadd.f32 s5, s5, s13\n\tvadd.f32 s6, s6, s14\n\tvadd.f32 s7, s7, s15\n\t"
                   "subs %[rows], %[rows], #1\n\t"
                   "bne 1b\n\t"
                   "vstmia %[acc], {s0-s7}"
                   : [x] "+&r"(x), [rows] "+&r"(rows)
                   : [acc] "r"(acc), [zeros] "r"(tt_zeros), [pitch] "r"(pitch)
                   : "cc", "memory", TT_SINGLES);
}
#else
#define tt_load_vfp tt_load_scalar
#define tt_sums_vfp tt_load_scalar
#define tt_store_vfp tt_store_scalar
TT_SIZES5(TT_FLOAT_TILES, vfp, 4)
TT_SIZES5(TT_PACKED_TILE, vfp)
TT_SIZES5(TT_HALF_TILES, vfp, 4)
TT_SIZES5(TT_HALVES_TILES, vfp, 4)

static inline void tt_columns_vfp(float *acc, const float *x, int32_t rows, int32_t pitch)
{
    for (int32_t j = 0; j < 8; ++j) {
        acc[j] = 0.0f;
        for (int32_t row = 0; row < rows; ++row) {
            acc[j] += x[row * pitch + j];
        }
    }
}
#endif

TT_STORE_HALF(vfp, 4)

#endif
