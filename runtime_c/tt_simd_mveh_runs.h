/* SPDX-License-Identifier: Apache-2.0 */
/* The tile of halves that does most of the work, `direct`, in assembly for Helium: what tt_simd_mveh_tiles.h says in C, bit for bit. */
#ifndef TT_SIMD_MVEH_RUNS_H
#define TT_SIMD_MVEH_RUNS_H

#include <stddef.h>

/* Chains of one or two operands are summed in q0 and q1, their fp32 sums stay in q2..q5: even and odd lanes of each; q6 holds b.
 * One LDM brings eight scalars of an operand. VFMA reads the lower half of a register, and one LSRL brings down two upper ones. */
#define TT_H_CLEAR(p, none) "vmov.i32 q" #p ", #0\n\t"
#define TT_H_SCALARS0 "ldmia %[a0]!, {r0-r3}\n\t"
#define TT_H_SCALARS1 "ldmia %[a1]!, {r4-r7}\n\t"
#define TT_H_SCALARS(p, none) TT_H_SCALARS##p
#define TT_H_SECOND0(p, none) TT_H_SECOND0_##p
#define TT_H_SECOND0_0 "lsrl r0, r1, #16\n\t"
#define TT_H_SECOND0_1 "lsrl r4, r5, #16\n\t"
#define TT_H_SECOND2(p, none) TT_H_SECOND2_##p
#define TT_H_SECOND2_0 "lsrl r2, r3, #16\n\t"
#define TT_H_SECOND2_1 "lsrl r6, r7, #16\n\t"
#define TT_H_REG0(at) "r" #at
#define TT_H_REG1(at) TT_H_REG1_##at
#define TT_H_REG1_0 "r4"
#define TT_H_REG1_1 "r5"
#define TT_H_REG1_2 "r6"
#define TT_H_REG1_3 "r7"
#define TT_H_MUL(p, at) "vmul.f16 q" #p ", q6, " TT_H_REG##p(at) "\n\t"
#define TT_H_FMA(p, at) "vfma.f16 q" #p ", q6, " TT_H_REG##p(at) "\n\t"
#define TT_H_LOADED(p, by) "ldrh " TT_H_REG##p(0) ", [%[a" #p "]], #" by "\n\t"
#define TT_H_FOLD(p, none) TT_H_FOLD##p
#define TT_H_FOLD0 TT_WIDEN_EVEN(7, 0) "vadd.f32 q2, q2, q7\n\t" TT_WIDEN_ODD(0, 0) "vadd.f32 q3, q3, q0\n\t"
#define TT_H_FOLD1 TT_WIDEN_EVEN(7, 1) "vadd.f32 q4, q4, q7\n\t" TT_WIDEN_ODD(1, 1) "vadd.f32 q5, q5, q1\n\t"
#define TT_H_GO_ON(p, none) "add %[a" #p "], %[a" #p "], r0, lsl #1\n\t"

/* Packed, b has its steps right behind each other; else they are b_step apart. From a step to the next one, the next but one, or the last one. */
#define TT_H_PACKED(to) TT_H_PACKED_##to
#define TT_H_PACKED_next "vldrh.u16 q6, [%[b]], #16\n\t"
#define TT_H_PACKED_skip "vldrh.u16 q6, [%[b]], #32\n\t"
#define TT_H_PACKED_back "vldrh.u16 q6, [%[b]], #-16\n\t"
#define TT_H_APART(to) "vldrh.u16 q6, [%[b]]\n\t" TT_H_APART_##to
#define TT_H_APART_next "add %[b], %[b], lr, lsl #1\n\t"
#define TT_H_APART_skip "add %[b], %[b], lr, lsl #2\n\t"
#define TT_H_APART_back "sub %[b], %[b], lr, lsl #1\n\t"

#define TT_H_FOUR(P, load, first, at, with, second) \
    load(skip) TT_P##P(first, at) load(back) TT_P##P(TT_H_FMA, with) TT_P##P(second, ) \
    load(skip) TT_P##P(TT_H_FMA, at) load(next) TT_P##P(TT_H_FMA, with)
#define TT_H_EIGHT(P, load, first, between, then) \
    TT_P##P(TT_H_SCALARS, ) TT_H_FOUR(P, load, first, 0, 1, TT_H_SECOND0) between TT_H_FOUR(P, load, then, 2, 3, TT_H_SECOND2)
/* Where an operand begins at an odd place, which LDM refuses. */
#define TT_H_ODD_FOUR(P, load) \
    load(skip) TT_P##P(TT_H_LOADED, "4") TT_P##P(TT_H_FMA, 0) load(back) TT_P##P(TT_H_LOADED, "-2") TT_P##P(TT_H_FMA, 0) \
    load(skip) TT_P##P(TT_H_LOADED, "4") TT_P##P(TT_H_FMA, 0) load(next) TT_P##P(TT_H_LOADED, "2") TT_P##P(TT_H_FMA, 0)

/* One run: chains of 16 if the sum is a long one, then of 4, two at once and one, then the rest. r0 has what tells whether an operand is at an odd place. */
#define TT_H_PLACES1 "mov r0, %[a0]\n\t"
#define TT_H_PLACES2 "orr r0, %[a0], %[a1]\n\t"
#define TT_H_RUN(P, load) \
    "ldr %[left], [%[w], %[at_steps]]\n\t" TT_H_PLACES##P \
    "lsls r0, r0, #30\n\t" \
    "bmi 13f\n\t" \
    "ldr r0, %[chain]\n\t" \
    "cmp r0, #16\n\t" \
    "bne 11f\n\t" \
    "subs %[left], %[left], #16\n\t" \
    "blt 4f\n" \
    "3:\n\t" TT_H_EIGHT(P, load, TT_H_MUL, , TT_H_FMA) TT_H_EIGHT(P, load, TT_H_FMA, , TT_H_FMA) TT_P##P(TT_H_FOLD, ) \
    "subs %[left], %[left], #16\n\t" \
    "bge 3b\n" \
    "4:\n\tadds %[left], %[left], #16\n" \
    "11:\n\tsubs %[left], %[left], #8\n\t" \
    "blt 6f\n" \
    "5:\n\t" TT_H_EIGHT(P, load, TT_H_MUL, TT_P##P(TT_H_FOLD, ), TT_H_MUL) TT_P##P(TT_H_FOLD, ) \
    "subs %[left], %[left], #8\n\t" \
    "bge 5b\n" \
    "6:\n\tadds %[left], %[left], #8\n" \
    "13:\n\tldr r1, %[chain]\n\t" \
    "cmp %[left], r1\n\t" \
    "it lt\n\t" \
    "movlt r1, #4\n\t" \
    "cmp %[left], r1\n\t" \
    "blt 15f\n\t" \
    "sub %[left], %[left], r1\n\t" TT_P##P(TT_H_CLEAR, ) \
    "14:\n\t" TT_H_ODD_FOUR(P, load) \
    "subs r1, r1, #4\n\t" \
    "bne 14b\n\t" TT_P##P(TT_H_FOLD, ) \
    "b 13b\n" \
    "15:\n\tcmp %[left], #0\n\t" \
    "beq 7f\n\t" TT_P##P(TT_H_CLEAR, ) \
    "16:\n\t" load(next) TT_P##P(TT_H_LOADED, "2") TT_P##P(TT_H_FMA, 0) \
    "subs %[left], %[left], #1\n\t" \
    "bne 16b\n\t" TT_P##P(TT_H_FOLD, )

#define TT_H_KEEP1 "vst20.32 {q2, q3}, [r0]\n\tvst21.32 {q2, q3}, [r0]\n\t"
#define TT_H_KEEP2 "vst20.32 {q2, q3}, [r0]\n\tvst21.32 {q2, q3}, [r0]!\n\tvst20.32 {q4, q5}, [r0]\n\tvst21.32 {q4, q5}, [r0]\n\t"
#define TT_H_OPERAND(p, none) [a##p] "+r"(a##p),

#define TT_H_RUNS(name, P, load) \
    static inline void name##_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        TT_P##P(TT_POINT_A, tt_half) \
        const int32_t chain = tt_chain_mveh(w->rows * w->cols * w->steps); \
        int32_t cols, rows = w->rows, left; \
        __asm volatile("vmov.i32 q2, #0\n\tvmov.i32 q3, #0\n\tvmov.i32 q4, #0\n\tvmov.i32 q5, #0\n\t" \
                       "ldr lr, [%[w], %[at_b_step]]\n\t" \
                       "ldr r0, %[rows]\n\t" \
                       "cmp r0, #0\n\t" \
                       "ble 9f\n" \
                       "1:\n\tldr r0, [%[w], %[at_cols]]\n\t" \
                       "str r0, %[cols]\n" \
                       "2:\n\t" TT_H_RUN(P, load) \
                       "7:\n\tldr r3, %[cols]\n\t" \
                       "subs r3, r3, #1\n\t" \
                       "beq 8f\n\t" \
                       "str r3, %[cols]\n\t" \
                       "ldr r0, [%[w], %[at_a_col]]\n\t" \
                       "ldr r1, [%[w], %[at_b_col]]\n\t" \
                       "add %[b], %[b], r1, lsl #1\n\t" TT_P##P(TT_H_GO_ON, ) \
                       "b 2b\n" \
                       "8:\n\tldr r0, [%[w], %[at_a_row]]\n\t" \
                       "ldr r1, [%[w], %[at_b_row]]\n\t" \
                       "add %[b], %[b], r1, lsl #1\n\t" TT_P##P(TT_H_GO_ON, ) \
                       "ldr r3, %[rows]\n\t" \
                       "subs r3, r3, #1\n\t" \
                       "str r3, %[rows]\n\t" \
                       "bne 1b\n" \
                       "9:\n\tldr r0, %[acc]\n\t" TT_H_KEEP##P \
                       : TT_P##P(TT_H_OPERAND, ) [b] "+r"(b), [rows] "+m"(rows), [cols] "=m"(cols), [left] "=&r"(left) \
                       : [w] "r"(w), [acc] "m"(acc), [chain] "m"(chain), [at_b_step] "J"(offsetof(tt_walk, b_step)), TT_MVE_WALK_AT \
                       : "cc", "memory", "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "lr", TT_MVE_VECTORS); \
    }

#define TT_H_DIRECT(P) \
    TT_H_RUNS(tt_packed_halves_mveh, P, TT_H_PACKED) \
    TT_H_RUNS(tt_apart_halves_mveh, P, TT_H_APART) \
    TT_SHARED void tt_direct_halves_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w) \
    { \
        if (w->b_step == 8) { \
            tt_packed_halves_mveh_##P(acc, a, b, w); \
        } else { \
            tt_apart_halves_mveh_##P(acc, a, b, w); \
        } \
    }
TT_H_DIRECT(1)
TT_H_DIRECT(2)

#endif
