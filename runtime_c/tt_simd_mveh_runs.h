/* SPDX-License-Identifier: Apache-2.0 */
/* `direct` of halves: runs along a sum, of up to three operands a and V vectors b side by side, which share what is loaded of each other. In
 * assembly for Helium, and in C for every other target: the same bits. Two vectors do most of the work; one is for fewer results, or a smaller strip. */
#ifndef TT_SIMD_MVEH_RUNS_H
#define TT_SIMD_MVEH_RUNS_H

/* What there is of a second vector. */
#define TT_D_HIGHER1(...)
#define TT_D_HIGHER2(...) __VA_ARGS__

/* How a sum is divided: short runs are chains of eight, of which those of neighbouring runs are joined too, up to `most`. */
#define TT_H_GROUPS \
    const int32_t some = tt_group_mveh(w->rows * w->cols * w->steps, results), chain = tt_chain_mveh(some); \
    const int32_t group = some / chain * chain, most = w->steps <= TT_SHORT_RUN && some >= 16 ? some / 8 : 1;

#if TT_MVE_LOOPS

#include <stddef.h>

/* Chains in q0..q5, two for each operand; their sums are in memory, even lanes before odd ones until the end. q6 and q7 hold b. */
#define TT_D_LOW0 "q0"
#define TT_D_LOW1 "q2"
#define TT_D_LOW2 "q4"
#define TT_D_HIGH0 "q1"
#define TT_D_HIGH1 "q3"
#define TT_D_HIGH2 "q5"
/* VFMA reads the lower half of a register: LDRD brings four scalars of an operand, of which one LSRL brings down the two upper ones. */
#define TT_D_FIRST0 "r0"
#define TT_D_FIRST1 "r2"
#define TT_D_FIRST2 "r4"
#define TT_D_NEXT0 "r1"
#define TT_D_NEXT1 "r3"
#define TT_D_NEXT2 "r5"
#define TT_D_SCALARS(p, V) "ldrd " TT_D_FIRST##p ", " TT_D_NEXT##p ", [%[a" #p "]], #8\n\t"
#define TT_D_ANYWHERE(p, V) "ldr " TT_D_FIRST##p ", [%[a" #p "]], #4\n\tldr " TT_D_NEXT##p ", [%[a" #p "]], #4\n\t"
#define TT_D_UPPER(p, V) "lsrl " TT_D_FIRST##p ", " TT_D_NEXT##p ", #16\n\t"
#define TT_D_ONE(p, V) "ldrh " TT_D_FIRST##p ", [%[a" #p "]], #2\n\t"
#define TT_D_DO(V, word, p, s) word ".f16 " TT_D_LOW##p ", q6, " s "\n\t" TT_D_HIGHER##V(word ".f16 " TT_D_HIGH##p ", q7, " s "\n\t")
#define TT_D_MUL(p, V) TT_D_DO(V, "vmul", p, TT_D_FIRST##p)
#define TT_D_FMA(p, V) TT_D_DO(V, "vfma", p, TT_D_FIRST##p)
#define TT_D_FMA2(p, V) TT_D_DO(V, "vfma", p, TT_D_NEXT##p)
#define TT_D_CLEAR(p, V) "vmov.i32 " TT_D_LOW##p ", #0\n\t" TT_D_HIGHER##V("vmov.i32 " TT_D_HIGH##p ", #0\n\t")
#define TT_D_GO_ON(p, V) "add %[a" #p "], %[a" #p "], r0, lsl #1\n\t"

/* What is joined as halves, at r0. */
#define TT_D_KEPT(p, V, word, low, high) \
    word " " low ", [r0, #16 * " #V " * " #p "]\n\t" TT_D_HIGHER##V(word " " high ", [r0, #32 * " #p " + 16]\n\t")
#define TT_D_KEEP(p, V) TT_D_KEPT(p, V, "vstrh.16", TT_D_LOW##p, TT_D_HIGH##p)
#define TT_D_JOIN(p, V) \
    TT_D_KEPT(p, V, "vldrh.u16", "q6", "q7") "vadd.f16 " TT_D_LOW##p ", " TT_D_LOW##p ", q6\n\t" \
    TT_D_HIGHER##V("vadd.f16 " TT_D_HIGH##p ", " TT_D_HIGH##p ", q7\n\t")

#define TT_D_ADD(at, sum) "vldrw.u32 q7, [r0, #" at "]\n\tvadd.f32 " sum ", " sum ", q7\n\tvstrw.32 " sum ", [r0, #" at "]\n\t"
#define TT_D_FOLD_OF(q, at) TT_WIDEN_EVEN(6, q) TT_D_ADD(at, "q6") TT_WIDEN_ODD(q, q) TT_D_ADD(at " + 16", "q" #q)
#define TT_D_FOLD0(V) TT_D_FOLD_OF(0, "0") TT_D_HIGHER##V(TT_D_FOLD_OF(1, "32"))
#define TT_D_FOLD1(V) TT_D_FOLD_OF(2, "32 * " #V) TT_D_HIGHER##V(TT_D_FOLD_OF(3, "96"))
#define TT_D_FOLD2(V) TT_D_FOLD_OF(4, "64 * " #V) TT_D_HIGHER##V(TT_D_FOLD_OF(5, "160"))
#define TT_D_FOLD(p, V) TT_D_FOLD##p(V)
#define TT_D_NO_SUM(p, V) TT_D_NONE TT_D_HIGHER##V(TT_D_NONE)
#define TT_D_IN_ORDER(p, V) TT_D_ORDERED TT_D_HIGHER##V(TT_D_ORDERED)
#define TT_D_ORDERED "vldrw.u32 q0, [r0]\n\tvldrw.u32 q1, [r0, #16]\n\tvst20.32 {q0, q1}, [r0]\n\tvst21.32 {q0, q1}, [r0]!\n\t"
#define TT_D_NONE "vstrw.32 q0, [r6], #16\n\tvstrw.32 q0, [r6], #16\n\t"

/* Steps of b, in the order 0, 2, 1, 3 of four, and one alone. Packed, they are right behind each other, and b points four steps before what is
 * read next; else they are b_step apart. */
#define TT_D_PACKED0(V) "vldrh.u16 q6, [%[b], #64 * " #V "]!\n\t" TT_D_HIGHER##V("vldrh.u16 q7, [%[b], #16]\n\t")
#define TT_D_PACKED_AT(V, at) "vldrh.u16 q6, [%[b], #16 * " #V " * " at "]\n\t" TT_D_HIGHER##V("vldrh.u16 q7, [%[b], #32 * " at " + 16]\n\t")
#define TT_D_PACKED2(V) TT_D_PACKED_AT(V, "2")
#define TT_D_PACKED1(V) TT_D_PACKED_AT(V, "1")
#define TT_D_PACKED3(V) TT_D_PACKED_AT(V, "3")
#define TT_D_PACKED4(V) TT_D_PACKED_AT(V, "4") "add %[b], %[b], #16 * " #V "\n\t"
#define TT_D_AT_B(V) "vldrh.u16 q6, [%[b]]\n\t" TT_D_HIGHER##V("vldrh.u16 q7, [%[b], #16]\n\t")
#define TT_D_APART0(V) TT_D_AT_B(V) "add %[b], %[b], lr, lsl #2\n\t"
#define TT_D_APART2(V) TT_D_AT_B(V) "sub %[b], %[b], lr, lsl #1\n\t"
#define TT_D_APART1(V) TT_D_APART0(V)
#define TT_D_APART3(V) TT_D_AT_B(V) "add %[b], %[b], lr, lsl #1\n\t"
#define TT_D_APART4(V) TT_D_APART3(V)
#define TT_D_BEFORE_PACKED(V) "sub %[b], %[b], #64 * " #V "\n\t"
#define TT_D_BEFORE_APART(V)

#define TT_D_FOUR(P, V, load, scalars, first) \
    TT_P##P(scalars, V) load##0(V) TT_P##P(first, V) load##2(V) TT_P##P(TT_D_FMA2, V) TT_P##P(TT_D_UPPER, V) \
    load##1(V) TT_P##P(TT_D_FMA, V) load##3(V) TT_P##P(TT_D_FMA2, V)
#define TT_D_EIGHT(P, V, load) TT_D_FOUR(P, V, load, TT_D_SCALARS, TT_D_MUL) TT_D_FOUR(P, V, load, TT_D_SCALARS, TT_D_FMA)
#define TT_D_TWELVE(P, V, load) TT_D_EIGHT(P, V, load) TT_D_FOUR(P, V, load, TT_D_SCALARS, TT_D_FMA)

/* A group of r6 chains. */
#define TT_D_GROUP(P, V, load, one) \
    one(P, V, load) \
    "subs r6, r6, #1\n\t" \
    "beq 92f\n\t" \
    "ldr r0, %[kept]\n" \
    "91:\n\t" TT_P##P(TT_D_KEEP, V) one(P, V, load) \
    "ldr r0, %[kept]\n\t" TT_P##P(TT_D_JOIN, V) \
    "subs r6, r6, #1\n\t" \
    "bne 91b\n" \
    "92:\n\tldr r0, %[acc]\n\t" TT_P##P(TT_D_FOLD, V)

/* One run: groups of joined chains, what is left then as chains of eight, and the rest. It goes fast where all operands are at even places. */
#define TT_D_PLACES1 "mov r1, %[a0]\n\t"
#define TT_D_PLACES2 "orr r1, %[a0], %[a1]\n\t"
#define TT_D_PLACES3 "orr r1, %[a0], %[a1]\n\torr r1, r1, %[a2]\n\t"
#define TT_D_RUN(P, V, load) \
    "ldr %[left], [%[w], %[at_steps]]\n\t" \
    "ldr r0, %[whole]\n\t" TT_D_PLACES##P \
    "lsls r1, r1, #30\n\t" \
    "bmi 5f\n\t" \
    "cmp r0, #8\n\t" \
    "blt 19f\n\t" \
    "beq 4f\n" \
    "2:\n\tldr r0, %[group]\n\t" \
    "subs %[left], %[left], r0\n\t" \
    "blt 3f\n\t" \
    "ldr r6, %[joins]\n\t" TT_D_GROUP(P, V, load, TT_D_TWELVE) \
    "b 2b\n" \
    "3:\n\tadds %[left], %[left], r0\n" \
    "4:\n\tlsrs r6, %[left], #3\n\t" \
    "beq 5f\n\t" \
    "ldr r0, %[eights]\n\t" \
    "cmp r6, r0\n\t" \
    "it gt\n\t" \
    "movgt r6, r0\n\t" \
    "sub %[left], %[left], r6, lsl #3\n\t" TT_D_GROUP(P, V, load, TT_D_EIGHT) \
    "b 4b\n" \
    "19:\n\tlsls r1, %[left], #29\n\t" \
    "bne 5f\n\t" \
    "cmp r0, #0\n\t" \
    "bne 5f\n\t" \
    "ldr r6, %[joined]\n" /* a short run of whole eights */ \
    "24:\n\t" TT_D_EIGHT(P, V, load) \
    "ldr r0, %[kept]\n\t" \
    "cmp r6, #0\n\t" \
    "beq 25f\n\t" TT_P##P(TT_D_JOIN, V) \
    "25:\n\tadd r6, r6, #1\n\t" \
    "subs %[left], %[left], #8\n\t" \
    "ble 26f\n\t" TT_P##P(TT_D_KEEP, V) \
    "b 24b\n" \
    "26:\n\tldr r1, %[most]\n\t" \
    "cmp r6, r1\n\t" \
    "bge 27f\n\t" TT_P##P(TT_D_KEEP, V) \
    "b 28f\n" \
    "27:\n\tldr r0, %[acc]\n\t" TT_P##P(TT_D_FOLD, V) \
    "mov r6, #0\n" \
    "28:\n\tstr r6, %[joined]\n" \
    "5:\n\tcmp %[left], #0\n\t" \
    "ble 13f\n\t" \
    "ldr r1, %[chain]\n\t" \
    "ldr r0, %[group]\n\t" \
    "cmp %[left], r0\n\t" \
    "bge 6f\n\t" \
    "bics r0, %[left], #7\n\t" \
    "mov r1, #8\n\t" \
    "bne 6f\n\t" \
    "mov r0, %[left]\n" \
    "6:\n\tstr r1, %[piece]\n\t" \
    "sub r1, %[left], r0\n\t" \
    "str r1, %[later]\n\t" \
    "mov %[left], r0\n" \
    "7:\n\tldr r6, %[piece]\n\t" \
    "cmp %[left], r6\n\t" \
    "it lt\n\t" \
    "movlt r6, %[left]\n\t" \
    "sub %[left], %[left], r6\n\t" TT_D_PLACES##P \
    "lsls r1, r1, #30\n\t" \
    "bmi 16f\n\t" \
    "cmp r6, #8\n\t" \
    "bne 16f\n\t" TT_D_EIGHT(P, V, load) \
    "b 12f\n" \
    "16:\n\tsubs r6, r6, #4\n\t" \
    "blt 9f\n\t" TT_D_FOUR(P, V, load, TT_D_ANYWHERE, TT_D_MUL) \
    "8:\n\tsubs r6, r6, #4\n\t" \
    "blt 10f\n\t" TT_D_FOUR(P, V, load, TT_D_ANYWHERE, TT_D_FMA) \
    "b 8b\n" \
    "9:\n\t" TT_P##P(TT_D_CLEAR, V) \
    "10:\n\tadds r6, r6, #4\n\t" \
    "beq 12f\n" \
    "11:\n\t" load##4(V) TT_P##P(TT_D_ONE, V) TT_P##P(TT_D_FMA, V) \
    "subs r6, r6, #1\n\t" \
    "bne 11b\n" \
    "12:\n\tldr r1, %[joined]\n\t" \
    "ldr r0, %[kept]\n\t" \
    "cbz r1, 14f\n\t" TT_P##P(TT_D_JOIN, V) \
    "14:\n\tadd r1, r1, #1\n\t" \
    "cmp %[left], #0\n\t" \
    "bne 17f\n\t" \
    "ldr r2, %[most]\n\t" \
    "cmp r1, r2\n\t" \
    "bge 15f\n" \
    "17:\n\tstr r1, %[joined]\n\t" TT_P##P(TT_D_KEEP, V) \
    "cmp %[left], #0\n\t" \
    "bne 7b\n\t" \
    "b 18f\n" \
    "15:\n\tldr r0, %[acc]\n\t" TT_P##P(TT_D_FOLD, V) \
    "mov r1, #0\n\t" \
    "str r1, %[joined]\n" \
    "18:\n\tldr %[left], %[later]\n\t" \
    "b 5b\n" \
    "13:\n\t"

#define TT_D_OPERAND(p, V) [a##p] "+&r"(a##p),
#define TT_D_RUNS(name, P, V, load, before) \
    static inline void name##_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w, int32_t results) \
    { \
        TT_P##P(TT_POINT_A, tt_half) \
        TT_H_GROUPS \
        const int32_t joins = group / chain, eights = group / 8, whole = most > 1 ? 0 : chain; \
        int32_t cols, rows = w->rows, later, piece, joined, left; \
        tt_half room[8 * (V) * (P)], *const kept = room; \
        __asm volatile("ldr r6, %[acc]\n\tvmov.i32 q0, #0\n\t" TT_P##P(TT_D_NO_SUM, V) \
                       "mov r0, #0\n\t" \
                       "str r0, %[joined]\n\t" \
                       "ldr lr, [%[w], %[at_b_col] - 4]\n\t" /* b_step, as there are no more than 30 operands */ before(V) \
                       "ldr r0, %[rows]\n\t" \
                       "cmp r0, #0\n\t" \
                       "ble 23f\n" \
                       "1:\n\tldr r0, [%[w], %[at_cols]]\n\t" \
                       "str r0, %[cols]\n" \
                       "21:\n\t" TT_D_RUN(P, V, load) \
                       "ldr r3, %[cols]\n\t" \
                       "subs r3, r3, #1\n\t" \
                       "beq 22f\n\t" \
                       "str r3, %[cols]\n\t" \
                       "ldr r0, [%[w], %[at_a_col]]\n\t" \
                       "ldr r1, [%[w], %[at_b_col]]\n\t" \
                       "add %[b], %[b], r1, lsl #1\n\t" TT_P##P(TT_D_GO_ON, V) \
                       "b 21b\n" \
                       "22:\n\tldr r0, [%[w], %[at_a_row]]\n\t" \
                       "ldr r1, [%[w], %[at_b_row]]\n\t" \
                       "add %[b], %[b], r1, lsl #1\n\t" TT_P##P(TT_D_GO_ON, V) \
                       "ldr r3, %[rows]\n\t" \
                       "subs r3, r3, #1\n\t" \
                       "str r3, %[rows]\n\t" \
                       "bne 1b\n" \
                       "ldr r1, %[joined]\n\t" \
                       "cmp r1, #0\n\t" \
                       "beq 23f\n\t" \
                       "ldr r0, %[acc]\n\t" TT_P##P(TT_D_FOLD, V) "23:\n\tldr r0, %[acc]\n\t" TT_P##P(TT_D_IN_ORDER, V) \
                       : TT_P##P(TT_D_OPERAND, V) [b] "+&r"(b), [rows] "+m"(rows), [cols] "=m"(cols), [later] "=m"(later), \
                         [piece] "=m"(piece), [joined] "=m"(joined), [left] "=&r"(left) \
                       : [w] "r"(w), [acc] "m"(acc), [group] "m"(group), [joins] "m"(joins), [chain] "m"(chain), [whole] "m"(whole), [most] "m"(most), [eights] "m"(eights), [kept] "m"(kept), \
                         TT_MVE_WALK_AT \
                       : "cc", "memory", "r0", "r1", "r2", "r3", "r4", "r5", "r6", "lr", TT_MVE_VECTORS); \
    }

#define TT_DIRECT_H(name, P, V) \
    TT_D_RUNS(name##_packed, P, V, TT_D_PACKED, TT_D_BEFORE_PACKED) \
    TT_D_RUNS(name##_apart, P, V, TT_D_APART, TT_D_BEFORE_APART) \
    TT_SHARED void name##_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w, int32_t results) \
    { \
        if (w->b_step == 8 * (V)) { \
            name##_packed_##P(acc, a, b, w, results); \
        } else { \
            name##_apart_##P(acc, a, b, w, results); \
        } \
    }

/* One chain of `outer`: `count` steps of each of some rows. Neighbours a are at any place. */
#define TT_D_SCALAR(p, V) "ldrh " TT_D_FIRST##p ", [%[a], #2 * " #p "]\n\t"
#define TT_D_CHAIN(P) \
    __attribute__((always_inline)) static inline void tt_chain_double_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w, \
                                                                             tt_half *kept, int32_t count, int32_t rows, int32_t joined, int32_t more) \
    { \
        const int32_t a_row = w->a_row, b_row = w->b_row; \
        __asm volatile(TT_P##P(TT_D_CLEAR, 2) \
                       "1:\n\tldr r0, %[count]\n\tdls lr, r0\n" \
                       "2:\n\t" TT_D_AT_B(2) TT_P##P(TT_D_SCALAR, 2) "add %[b], %[b], %[b_step], lsl #1\n\t" \
                       "add %[a], %[a], %[a_step], lsl #1\n\t" TT_P##P(TT_D_FMA, 2) \
                       "le lr, 2b\n\t" \
                       "ldr r0, %[a_row]\n\t" \
                       "ldr r2, %[b_row]\n\t" \
                       "add %[a], %[a], r0, lsl #1\n\t" \
                       "add %[b], %[b], r2, lsl #1\n\t" \
                       "ldr r0, %[rows]\n\t" \
                       "subs r0, r0, #1\n\t" \
                       "str r0, %[rows]\n\t" \
                       "bne 1b\n\t" \
                       "ldr r0, %[kept]\n\t" \
                       "ldr r2, %[joined]\n\t" \
                       "cbz r2, 3f\n\t" TT_P##P(TT_D_JOIN, 2) \
                       "3:\n\tldr r2, %[more]\n\t" \
                       "cmp r2, #0\n\t" \
                       "beq 4f\n\t" TT_P##P(TT_D_KEEP, 2) \
                       "b 5f\n" \
                       "4:\n\tldr r0, %[acc]\n\t" TT_P##P(TT_D_FOLD, 2) "5:\n\t" \
                       : [a] "+&r"(a), [b] "+&r"(b), [rows] "+m"(rows) \
                       : [count] "m"(count), [acc] "m"(acc), [a_step] "r"(w->a_step), [b_step] "r"(w->b_step), \
                         [a_row] "m"(a_row), [b_row] "m"(b_row), [kept] "m"(kept), [joined] "m"(joined), [more] "m"(more) \
                       : "cc", "memory", "r0", "r2", "r4", "lr", TT_MVE_VECTORS); \
    }
#define TT_D_CALL(of_chain) of_chain(acc, from_a, from_b, w, kept, count, rows, joined, more);
#define TT_OUTER_DOUBLE_H(P) \
    TT_D_CHAIN(P) \
    TT_SHARED void tt_outer_double_halves_mveh_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w, int32_t results) \
    { \
        tt_half kept[16 * (P)]; \
        __asm volatile("ldr r6, %[acc]\n\tvmov.i32 q0, #0\n\t" TT_P##P(TT_D_NO_SUM, 2) : : [acc] "m"(acc) : "memory", "r6", "q0"); \
        TT_EACH_CHAIN_H(TT_D_CALL, tt_chain_double_mveh_##P) \
        __asm volatile("ldr r0, %[acc]\n\t" TT_P##P(TT_D_IN_ORDER, 2) : : [acc] "m"(acc) : "memory", "r0", "q0", "q1"); \
    }
#else

#define TT_SUMS_D(p, V) tt_v_mveh low##p = tt_zero_mveh() TT_D_HIGHER##V(, high##p = tt_zero_mveh());
#define TT_NOTHING_D(p, V) tt_h_mveh jl##p = tt_h_zero_mveh() TT_D_HIGHER##V(, jh##p = tt_h_zero_mveh());
#define TT_ZERO_D(p, V) tt_h_mveh l##p = tt_h_zero_mveh() TT_D_HIGHER##V(, h##p = tt_h_zero_mveh());
#define TT_MADD_D(p, V) \
    l##p = tt_h_madd_mveh(l##p, tt_h_load_mveh(b + at * w->b_step), a##p[at]); \
    TT_D_HIGHER##V(h##p = tt_h_madd_mveh(h##p, tt_h_load_mveh(b + at * w->b_step + 8), a##p[at]);)
#define TT_JOIN_D(p, V) \
    jl##p = tt_h_add_mveh(jl##p, l##p); \
    TT_D_HIGHER##V(jh##p = tt_h_add_mveh(jh##p, h##p);)
#define TT_FOLD_D(p, V) \
    low##p = tt_folded_mveh(low##p, jl##p); \
    jl##p = tt_h_zero_mveh(); \
    TT_D_HIGHER##V(high##p = tt_folded_mveh(high##p, jh##p); jh##p = tt_h_zero_mveh();)
#define TT_STORE_D(p, V) \
    tt_store_mveh(acc + (p) * 8 * V, low##p); \
    TT_D_HIGHER##V(tt_store_mveh(acc + (p) * 16 + 8, high##p);)
#define TT_GO_ON_D(p, count) a##p += count;

#define TT_DIRECT_H(name, P, V) \
    TT_SHARED void name##_##P(float *acc, const tt_half *a, const tt_half *b, const tt_walk *w, int32_t results) \
    { \
        TT_H_GROUPS \
        int32_t joined = 0; \
        TT_P##P(TT_SUMS_D, V) \
        TT_P##P(TT_NOTHING_D, V) \
        for (int32_t row = w->rows; row > 0; --row) { \
            for (int32_t col = w->cols;;) { \
                TT_P##P(TT_POINT_A, tt_half) \
                for (int32_t later = w->steps; later > 0;) { \
                    int32_t left = later >= group ? group : later >= 8 ? later & ~7 : later; \
                    const int32_t piece = later >= group ? chain : 8; \
                    later -= left; \
                    while (left > 0) { \
                        const int32_t count = left < piece ? left : piece; \
                        TT_P##P(TT_ZERO_D, V) \
                        for (int32_t i = 0; i < count; ++i) { \
                            const int32_t at = tt_step_mveh(i, count); \
                            TT_P##P(TT_MADD_D, V) \
                        } \
                        TT_P##P(TT_JOIN_D, V) \
                        TT_P##P(TT_GO_ON_D, count) \
                        b += count * w->b_step; \
                        left -= count; \
                        ++joined; \
                    } \
                    if (joined >= most) { \
                        TT_P##P(TT_FOLD_D, V) \
                        joined = 0; \
                    } \
                } \
                if (--col == 0) { \
                    break; \
                } \
                a += w->steps + w->a_col; \
                b += w->b_col; \
            } \
            a += w->steps + w->a_row; \
            b += w->b_row; \
        } \
        TT_P##P(TT_FOLD_D, V) \
        TT_P##P(TT_STORE_D, V) \
    }

#define TT_SUMS_O(p, none) TT_SUMS_D(p, 2) TT_NOTHING_D(p, 2)
#define TT_ZERO_O(p, none) TT_ZERO_D(p, 2)
#define TT_MADD_O(p, none) \
    l##p = tt_h_madd_mveh(l##p, tt_h_load_mveh(from_b), from_a[p]); \
    h##p = tt_h_madd_mveh(h##p, tt_h_load_mveh(from_b + 8), from_a[p]);
#define TT_JOIN_O(p, none) TT_JOIN_D(p, 2)
#define TT_FOLD_O(p, none) TT_FOLD_D(p, 2)
#define TT_STORE_O(p, none) TT_STORE_D(p, 2)
#define TT_OUTER_DOUBLE_H(P) TT_ACROSS_H(tt_outer_double_halves, P, TT_SUMS_O, TT_ZERO_O, TT_MADD_O, TT_JOIN_O, TT_FOLD_O, TT_STORE_O)
#endif

#define TT_RUNS_H(P) \
    TT_DIRECT_H(tt_direct_halves_mveh, P, 1) \
    TT_DIRECT_H(tt_direct_double_halves_mveh, P, 2) \
    TT_OUTER_DOUBLE_H(P)
TT_RUNS_H(1)
TT_RUNS_H(2)
TT_RUNS_H(3)

#endif
