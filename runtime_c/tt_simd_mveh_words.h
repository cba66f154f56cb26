/* SPDX-License-Identifier: Apache-2.0 */
/* Outer products of halves: up to six scalars a times one vector b in each step of a sum, of rows of so many steps. The scalars lie in words, those of
 * a step side by side, as VFMA reads the lower half of a register: one LDM brings two steps of them. All registers but the stack pointer hold
 * scalars and places, so that b moves on by a constant. In assembly for Helium, and in C for every other target: the same bits. */
#ifndef TT_SIMD_MVEH_WORDS_H
#define TT_SIMD_MVEH_WORDS_H

/* Words of `size` neighbours at each of `rows` x `cols` places. */
TT_SHARED void tt_words_mveh(uint32_t *to, int32_t size, int32_t to_row, const tt_half *from, int32_t from_row, int32_t step, int32_t rows, int32_t cols)
{
    for (int32_t row = 0; row < rows; ++row, to += to_row, from += from_row) {
        uint32_t *at = to;
        const tt_half *next = from;
#if TT_MVE_LOOPS
        if (size >= 4) {
            for (int32_t i = 0; i < cols; ++i, at += size, next += step) {
                vstrwq_u32(at, vldrhq_u32(next));
                vstrwq_u32(at + size - 4, vldrhq_u32(next + size - 4));
            }
            continue;
        }
#endif
        for (int32_t i = 0; i < cols; ++i, at += size, next += step) {
            for (int32_t p = 0; p < size; ++p) {
                at[p] = next[p];
            }
        }
    }
}

/* No words where a row of places meets the padding. */
TT_SHARED void tt_words_zero_mveh(uint32_t *to, int32_t to_row, int32_t rows, int32_t count)
{
    for (int32_t row = 0; row < rows; ++row, to += to_row) {
        for (int32_t i = 0; i < count; ++i) {
            to[i] = 0;
        }
    }
}

/* Of `size` rows of `count` halves those at each place, side by side. */
TT_SHARED void tt_words_rows_mveh(uint32_t *to, int32_t size, const tt_half *from, int32_t count)
{
    for (int32_t p = 0; p < size; ++p, ++to, from += count) {
        int32_t i = 0;
#if TT_MVE_LOOPS
        const uint32x4_t steps = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)size);
        for (; i < (count & ~3); i += 4) {
            vstrwq_scatter_shifted_offset_u32(to + i * size, steps, vldrhq_u32(from + i));
        }
#endif
        for (; i < count; ++i) {
            to[i * size] = from[i];
        }
    }
}

/* Lines of a map, of each row one of each channel: `count` positions, `step` halves apart, of which first..last are no padding. `from` is where
 * the first one of these is read. */
TT_SHARED void tt_lines_mveh(tt_half *to, int32_t to_row, const tt_half *from, int32_t from_row, int32_t rows, int32_t channels, int32_t step,
                             int32_t first, int32_t last, int32_t count)
{
#if TT_MVE_LOOPS
    const uint16x8_t steps = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)step), next = vaddq_n_u16(steps, 1);
    for (int32_t q = 0; q < count; q += 8) {
        const int32_t begin = first > q ? first - q : 0, end = last - q < 8 ? last - q : 8;
        const mve_pred16_t live = (mve_pred16_t)(end > begin ? (0xFFFF >> (16 - 2 * end)) & (0xFFFF << 2 * begin) : 0);
        const int32_t pairs = begin == 0 && end == 8 ? channels & ~1 : 0;
        for (int32_t row = 0; row < rows; ++row) {
            const tt_half *at = from + row * from_row + (q - first) * step;
            tt_half *line = to + row * to_row + q;
            for (int32_t c = 0; c < pairs; c += 2, at += 2) {
                vstrhq_u16(line, vldrhq_gather_shifted_offset_u16(at, steps));
                line += count;
                vstrhq_u16(line, vldrhq_gather_shifted_offset_u16(at, next));
                line += count;
            }
            for (int32_t c = pairs; c < channels; ++c, ++at, line += count) {
                vstrhq_u16(line, vldrhq_gather_shifted_offset_z_u16(at, steps, live));
            }
        }
    }
#else
    for (int32_t row = 0; row < rows; ++row, to += to_row, from += from_row) {
        for (int32_t c = 0; c < channels; ++c) {
            for (int32_t q = 0; q < count; ++q) {
                to[c * count + q] = q < first || q >= last ? 0 : from[(q - first) * step + c];
            }
        }
    }
#endif
}

/* What a tile has left of eight neighbours, even lanes before odd ones: as a vector, or of eight scalars that of one neighbour. */
static inline tt_v_mveh tt_apart_mveh(const float *acc)
{
    return (tt_v_mveh){ tt_load_mve(acc), tt_load_mve(acc + 4) };
}

static inline tt_v_mveh tt_turned_sums_mveh(const float *acc)
{
#if TT_MVE_LOOPS
    const uint32x4_t steps = vmulq_n_u32(vidupq_n_u32(0, 1), 16);
    return (tt_v_mveh){ vldrwq_gather_shifted_offset_f32(acc, steps), vldrwq_gather_shifted_offset_f32(acc + 8, steps) };
#else
    return (tt_v_mveh){ { acc[0], acc[16], acc[32], acc[48] }, { acc[8], acc[24], acc[40], acc[56] } };
#endif
}

/* How a tile walks: `rows` of `steps`; a_row and b_row lead from the end of one to the next. The others are constants: of how many products a sum
 * and a row are where there is no padding, and how many results the kernel has. */
#define TT_W_WALK \
    int32_t steps, int32_t rows, int32_t a_row, int32_t b_row, int32_t b_step, int32_t terms, int32_t run, int32_t results

/* Products of a chain, of a group; a row of less than that, `run`, is no rest but whole eights most often. */
static inline int32_t tt_chain_of_mveh(int32_t group, int32_t run)
{
    const int32_t chain = tt_chain_mveh(group);
    return run < group && chain > 8 ? 8 : chain;
}

#if TT_MVE_LOOPS

/* Chains in q0..q5, a vector of b in q6, scalars of a step from r0 on and those of the next one from r6 on; r12 leads through a, lr through b. */
#define TT_W_TWO1 "ldm r12!, {r0, r6}\n\t"
#define TT_W_TWO2 "ldm r12!, {r0, r1, r6, r7}\n\t"
#define TT_W_TWO3 "ldm r12!, {r0-r2, r6-r8}\n\t"
#define TT_W_TWO4 "ldm r12!, {r0-r3, r6-r9}\n\t"
#define TT_W_TWO5 "ldm r12!, {r0-r4, r6-r10}\n\t"
#define TT_W_TWO6 "ldm r12!, {r0-r11}\n\t"
#define TT_W_ONE1 "ldr r0, [r12], #4\n\t"
#define TT_W_ONE2 "ldm r12!, {r0, r1}\n\t"
#define TT_W_ONE3 "ldm r12!, {r0-r2}\n\t"
#define TT_W_ONE4 "ldm r12!, {r0-r3}\n\t"
#define TT_W_ONE5 "ldm r12!, {r0-r4}\n\t"
#define TT_W_ONE6 "ldm r12!, {r0-r5}\n\t"
#define TT_W_B "vldrh.u16 q6, [lr], %[b_step]\n\t"
#define TT_W_MUL(p, none) "vmul.f16 q" #p ", q6, r" #p "\n\t"
#define TT_W_FMA(p, none) "vfma.f16 q" #p ", q6, r" #p "\n\t"
#define TT_W_NEXT0 "r6"
#define TT_W_NEXT1 "r7"
#define TT_W_NEXT2 "r8"
#define TT_W_NEXT3 "r9"
#define TT_W_NEXT4 "r10"
#define TT_W_NEXT5 "r11"
#define TT_W_FMA_NEXT(p, none) "vfma.f16 q" #p ", q6, " TT_W_NEXT##p "\n\t"
#define TT_W_CLEAR(p, none) "vmov.i32 q" #p ", #0\n\t"

#define TT_W_PAIR(P, first) TT_W_TWO##P TT_W_B TT_P##P(first, ) TT_W_B TT_P##P(TT_W_FMA_NEXT, )
#define TT_W_PAIRS1(P) TT_W_PAIR(P, TT_W_FMA)
#define TT_W_PAIRS2(P) TT_W_PAIRS1(P) TT_W_PAIRS1(P)
#define TT_W_PAIRS4(P) TT_W_PAIRS2(P) TT_W_PAIRS2(P)
#define TT_W_CHAIN2(P) TT_W_PAIR(P, TT_W_MUL)
#define TT_W_CHAIN4(P) TT_W_CHAIN2(P) TT_W_PAIRS1(P)
#define TT_W_CHAIN6(P) TT_W_CHAIN4(P) TT_W_PAIRS1(P)
#define TT_W_CHAIN8(P) TT_W_CHAIN4(P) TT_W_PAIRS2(P)
#define TT_W_CHAIN12(P) TT_W_CHAIN8(P) TT_W_PAIRS2(P)
/* A chain of what is left: less than sixteen steps. */
#define TT_W_REST(P) \
    TT_P##P(TT_W_CLEAR, ) \
    "ldr r0, %[left]\n\tlsls r0, r0, #28\n\tbpl 61f\n\t" TT_W_PAIRS4(P) \
    "61:\n\tldr r0, %[left]\n\tlsls r0, r0, #29\n\tbpl 62f\n\t" TT_W_PAIRS2(P) \
    "62:\n\tldr r0, %[left]\n\tlsls r0, r0, #30\n\tbpl 63f\n\t" TT_W_PAIRS1(P) \
    "63:\n\tldr r0, %[left]\n\tlsls r0, r0, #31\n\tbpl 64f\n\t" TT_W_ONE##P TT_W_B TT_P##P(TT_W_FMA, ) \
    "64:\n\tmov r0, #0\n\tstr r0, %[left]\n\t"

#define TT_W_KEEP(p, none) "vstrh.16 q" #p ", [r0, #16 * " #p "]\n\t"
#define TT_W_JOIN(p, none) "vldrh.u16 q7, [r0, #16 * " #p "]\n\tvadd.f16 q" #p ", q" #p ", q7\n\t"
#define TT_W_FOLD(p, none) TT_D_FOLD_OF(p, "32 * " #p)
#define TT_W_BEGIN(p, none) TT_WIDEN_EVEN(6, p) "vstrw.32 q6, [r0, #32 * " #p "]\n\t" TT_WIDEN_ODD(p, p) "vstrw.32 q" #p ", [r0, #32 * " #p " + 16]\n\t"
#define TT_W_NONE(p, none) "vstrw.32 q6, [r0, #32 * " #p "]\n\tvstrw.32 q6, [r0, #32 * " #p " + 16]\n\t"

/* Groups of chains as long as there are some, then chain by chain what is left; where rows are `apart`, shorter than a group, they have chains only,
 * which are joined from row to row. `joined` is below 0 as long as there are no sums in memory. */
#define TT_W_NO_SUMS(P) "ldr r0, %[acc]\n\tvmov.i32 q6, #0\n\t" TT_P##P(TT_W_NONE, ) "mov r2, #0\n\tstr r2, %[joined]\n\t"
#define TT_W_SUMS(P, n) \
    __asm volatile(".if %c[apart]\n\t" TT_W_NO_SUMS(P) ".endif\n\t" \
                   "ldr r12, %[a]\n\t" \
                   "ldr lr, %[b]\n\t" \
                   "ldr r0, %[steps]\n" \
                   "2:\n\t" \
                   ".if !%c[apart]\n\t" \
                   "subs r1, r0, %[group]\n\t" \
                   "blt 6f\n\t" \
                   "str r1, %[left]\n\t" TT_W_CHAIN##n(P) \
                   ".rept %c[joins] - 1\n\t" \
                   "ldr r0, %[kept]\n\t" TT_P##P(TT_W_KEEP, ) TT_W_CHAIN##n(P) \
                   "ldr r0, %[kept]\n\t" TT_P##P(TT_W_JOIN, ) \
                   ".endr\n\t" \
                   "ldr r2, %[joined]\n\t" \
                   "ldr r0, %[acc]\n\t" \
                   "cmp r2, #0\n\t" \
                   "blt 1f\n\t" TT_P##P(TT_W_FOLD, ) \
                   "ldr r0, %[left]\n\t" \
                   "b 2b\n" \
                   "1:\n\t" TT_P##P(TT_W_BEGIN, ) \
                   "mov r2, #0\n\t" \
                   "str r2, %[joined]\n\t" \
                   "ldr r0, %[left]\n\t" \
                   "b 2b\n\t" \
                   ".endif\n" \
                   "6:\n\tsubs r0, r0, #" #n "\n\t" \
                   "blt 4f\n\t" \
                   "str r0, %[left]\n\t" TT_W_CHAIN##n(P) \
                   "3:\n\tldr r1, %[joined]\n\t" \
                   ".if !%c[apart]\n\t" \
                   "cmp r1, #0\n\t" \
                   "bge 31f\n\t" TT_W_NO_SUMS(P) \
                   "mov r1, #0\n" \
                   "31:\n\t" \
                   ".endif\n\t" \
                   "ldr r0, %[kept]\n\t" \
                   "cbz r1, 7f\n\t" TT_P##P(TT_W_JOIN, ) \
                   "7:\n\tadd r1, r1, #1\n\t" \
                   "cmp r1, %[joins]\n\t" \
                   "bge 8f\n\t" \
                   "str r1, %[joined]\n\t" TT_P##P(TT_W_KEEP, ) \
                   "ldr r0, %[left]\n\t" \
                   "b 6b\n" \
                   "8:\n\tldr r0, %[acc]\n\t" TT_P##P(TT_W_FOLD, ) \
                   "mov r1, #0\n\t" \
                   "str r1, %[joined]\n\t" \
                   "ldr r0, %[left]\n\t" \
                   "b 2b\n" \
                   "4:\n\tadds r0, r0, #" #n "\n\t" \
                   "beq 5f\n\t" \
                   "str r0, %[left]\n\t" TT_W_REST(P) \
                   "b 3b\n" \
                   "5:\n\t" \
                   ".if %c[apart]\n\t" \
                   "ldr r1, %[rows]\n\t" \
                   "subs r1, r1, #1\n\t" \
                   "beq 9f\n\t" \
                   "str r1, %[rows]\n\t" \
                   "ldr r1, %[a_row]\n\t" \
                   "ldr r2, %[b_row]\n\t" \
                   "add r12, r12, r1, lsl #2\n\t" \
                   "add lr, lr, r2, lsl #1\n\t" \
                   "ldr r0, %[steps]\n\t" \
                   "b 2b\n" \
                   ".endif\n" \
                   "9:\n\tldr r1, %[joined]\n\t" \
                   "cmp r1, #0\n\t" \
                   "beq 92f\n\t" \
                   "bgt 91f\n\t" TT_W_NO_SUMS(P) \
                   "b 92f\n" \
                   "91:\n\tldr r0, %[acc]\n\t" TT_P##P(TT_W_FOLD, ) \
                   "92:\n\t" \
                   : [rows] "+m"(rows), [joined] "+m"(joined), [left] "=m"(left) \
                   : [a] "m"(a), [b] "m"(b), [acc] "m"(acc), [kept] "m"(kept), [steps] "m"(steps), [a_row] "m"(a_row), [b_row] "m"(b_row), \
                     [b_step] "i"(2 * b_step), [group] "i"(group), [joins] "i"(group / n), [apart] "i"(run < terms) \
                   : "cc", "memory", "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", TT_MVE_VECTORS)

#define TT_WORDS_H(P) \
    __attribute__((always_inline)) static inline void tt_outer_words_mveh_##P(float *acc, const uint32_t *a, const tt_half *b, TT_W_WALK) \
    { \
        const int32_t group = tt_group_mveh(terms, results), chain = tt_chain_of_mveh(group, run); \
        int32_t joined = -1, left; \
        tt_half room[8 * (P)], *const kept = room; \
        if (chain == 12) { \
            TT_W_SUMS(P, 12); \
        } else if (chain == 8) { \
            TT_W_SUMS(P, 8); \
        } else if (chain == 6) { \
            TT_W_SUMS(P, 6); \
        } else if (chain == 4) { \
            TT_W_SUMS(P, 4); \
        } else { \
            TT_W_SUMS(P, 2); \
        } \
    }
#else

#define TT_APART_W(p, none) \
    tt_store_mve(acc + 8 * (p), c##p.even); \
    tt_store_mve(acc + 8 * (p) + 4, c##p.odd);
#define TT_MADD_W(p, none) h##p = tt_h_madd_mveh(h##p, tt_h_load_mveh(b), (tt_half)a[p]);

#define TT_WORDS_H(P) \
    TT_SHARED void tt_outer_words_mveh_##P(float *acc, const uint32_t *a, const tt_half *b, TT_W_WALK) \
    { \
        const int32_t group = tt_group_mveh(terms, results), chain = tt_chain_of_mveh(group, run); \
        int32_t joined = 0; \
        TT_P##P(TT_SUMS_H, ) \
        for (int32_t row = 0; row < rows; ++row, a += a_row, b += b_row) { \
            for (int32_t left = steps; left > 0; left -= chain) { \
                TT_P##P(TT_ZERO_H, ) \
                for (int32_t i = left < chain ? left : chain; i > 0; --i, a += P, b += b_step) { \
                    TT_P##P(TT_MADD_W, ) \
                } \
                TT_P##P(TT_JOIN_H, ) \
                if (++joined >= group / chain) { \
                    TT_P##P(TT_FOLD_JOINED_H, ) \
                    joined = 0; \
                } \
            } \
        } \
        TT_P##P(TT_FOLD_JOINED_H, ) \
        TT_P##P(TT_APART_W, ) \
    }
#endif
TT_WORDS_H(1)
TT_WORDS_H(2)
TT_WORDS_H(3)
TT_WORDS_H(4)
TT_WORDS_H(5)
TT_WORDS_H(6)

#endif
