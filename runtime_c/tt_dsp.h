/* SPDX-License-Identifier: Apache-2.0 */
/* Four int8 in a word, two int16 in a word: the instructions of Armv7E-M, and what they compute in C for every other target. */
#ifndef TT_DSP_H
#define TT_DSP_H

#include <stdint.h>
#if defined(__riscv_vector)
#include <riscv_vector.h>
#endif

/* Loops in assembly take all registers but one: without optimisation there are not enough, and the same loops stand in C. */
#if defined(__ARM_FEATURE_DSP) && defined(__OPTIMIZE__)
#define TT_DSP_LOOPS 1
#else
#define TT_DSP_LOOPS 0
#endif

/* Four bytes from any address, the first one lowest. */
static inline uint32_t tt_load4(const int8_t *from)
{
    uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return word;
}

/* The last `rest` (1 to 3) bytes of a run of at least four, lowest first; the bytes above them are 0. */
static inline uint32_t tt_load_last(const int8_t *from, uint32_t rest)
{
    return tt_load4(from + rest - 4) >> (8u * (4u - rest));
}

/* The same of a run of only `rest` bytes. */
static inline uint32_t tt_load_few(const int8_t *from, uint32_t rest)
{
    uint32_t word = 0;
    for (uint32_t i = 0; i < rest; ++i) {
        word |= (uint32_t)(uint8_t)from[i] << (8u * i);
    }
    return word;
}

/* Runs are short: with vectors a call takes longer than the copy. */
static inline void tt_copy_run(int8_t *to, const int8_t *from, uint32_t bytes)
{
#if defined(__riscv_vector)
    for (uint32_t n; bytes > 0; bytes -= n, from += n, to += n) {
        n = (uint32_t)__riscv_vsetvl_e8m8(bytes);
        __riscv_vse8_v_i8m8(to, __riscv_vle8_v_i8m8(from, n), n);
    }
#else
    __builtin_memcpy(to, from, bytes);
#endif
}

static inline void tt_fill_run(int8_t *to, int32_t value, uint32_t bytes)
{
    __builtin_memset(to, value, bytes);
}

/* Words as they stand now: assembly that says nothing of memory, and reads them from here, does so after all stores so far. Before these
 * words are written again, there must be another such place. */
static inline const uint32_t *tt_settled(const uint32_t *words)
{
    __asm volatile("" : "+r"(words) : : "memory");
    return words;
}

static inline void tt_clear8(int32_t *sums)
{
    sums[0] = sums[1] = sums[2] = sums[3] = sums[4] = sums[5] = sums[6] = sums[7] = 0;
}

/* Two int16 in one word. */
static inline uint32_t tt_pair(int32_t low, int32_t high)
{
    return ((uint32_t)low & 0xFFFFu) | ((uint32_t)high << 16);
}

static inline int32_t tt_low(uint32_t pair)
{
    return (int16_t)(pair & 0xFFFFu);
}

static inline int32_t tt_high(uint32_t pair)
{
    return (int16_t)(pair >> 16);
}

/* Bytes 0 and 2 of a word as int16. */
static inline uint32_t tt_even(uint32_t bytes)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("sxtb16 %0, %1" : "=r"(pair) : "r"(bytes));
    return pair;
#else
    return tt_pair((int8_t)(bytes & 0xFFu), (int8_t)((bytes >> 16) & 0xFFu));
#endif
}

/* Bytes 1 and 3. */
static inline uint32_t tt_odd(uint32_t bytes)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(bytes));
    return pair;
#else
    return tt_even(bytes >> 8);
#endif
}

/* Bytes 0 and 2, and bytes 1 and 3, each plus the int16 of `offset`. */
static inline uint32_t tt_even_plus(uint32_t offset, uint32_t bytes)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("sxtab16 %0, %1, %2" : "=r"(pair) : "r"(offset), "r"(bytes));
    return pair;
#else
    const uint32_t pair = tt_even(bytes);
    return tt_pair(tt_low(pair) + tt_low(offset), tt_high(pair) + tt_high(offset));
#endif
}

static inline uint32_t tt_odd_plus(uint32_t offset, uint32_t bytes)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("sxtab16 %0, %1, %2, ror #8" : "=r"(pair) : "r"(offset), "r"(bytes));
    return pair;
#else
    return tt_even_plus(offset, bytes >> 8);
#endif
}

/* sum + low·low + high·high */
static inline int32_t tt_dot2(uint32_t a, uint32_t b, int32_t sum)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t result;
    __asm("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
#else
    return sum + tt_low(a) * tt_low(b) + tt_high(a) * tt_high(b);
#endif
}

/* sum + those bytes of `flags` where a byte of `bytes` is one of the `count` numbers from `first` on (both in each byte). */
static inline uint32_t tt_flag4(uint32_t bytes, uint32_t first, uint32_t count, uint32_t flags, uint32_t sum)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t result;
    __asm("usub8 %0, %1, %2\n\tusub8 %0, %0, %3\n\tsel %0, %6, %4\n\tusada8 %0, %0, %6, %5"
          : "=&r"(result)
          : "r"(bytes), "r"(first), "r"(count), "r"(flags), "r"(sum), "r"(0)
          : "cc");
    return result;
#else
    for (uint32_t at = 0; at < 32; at += 8) {
        if ((((bytes >> at) - (first >> at)) & 0xFFu) < ((count >> at) & 0xFFu)) {
            sum += (flags >> at) & 0xFFu;
        }
    }
    return sum;
#endif
}

/* Two pairs side by side: what one instruction loads. */
static inline uint64_t tt_pairs(uint32_t first, uint32_t second)
{
    return first | (uint64_t)second << 32;
}

/* sum + both products of pairs; loaded right where they are used, which keeps as many sums in registers as there are. */
static inline int32_t tt_dot4(const uint64_t *pairs, uint32_t first, uint32_t second, int32_t sum)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t low, high;
    __asm("ldrd %1, %2, %3\n\tsmlad %0, %1, %4, %0\n\tsmlad %0, %2, %5, %0"
          : "+&r"(sum), "=&r"(low), "=&r"(high)
          : "m"(*pairs), "r"(first), "r"(second));
    return sum;
#else
    return tt_dot2((uint32_t)(*pairs >> 32), second, tt_dot2((uint32_t)*pairs, first, sum));
#endif
}

/* Four bytes from `at` on of a row of `size`; `fill` stands for those outside of it. */
__attribute__((noinline, unused)) static uint32_t tt_load_edge(const int8_t *row, int32_t at, int32_t size, int32_t fill)
{
    uint32_t word = 0;
    for (int32_t i = at + 3; i >= at; --i) {
        word = word << 8 | (uint8_t)(i >= 0 && i < size ? row[i] : fill);
    }
    return word;
}

static inline uint32_t tt_load_within(const int8_t *row, int32_t at, int32_t size, int32_t fill)
{
    return at >= 0 && at <= size - 4 ? tt_load4(row + at) : tt_load_edge(row, at, size, fill);
}

/* The lower halves of two words, or the upper ones. */
static inline uint32_t tt_lower(uint32_t a, uint32_t b)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
#else
    return (a & 0xFFFFu) | b << 16;
#endif
}

static inline uint32_t tt_upper(uint32_t a, uint32_t b)
{
#if defined(__ARM_FEATURE_DSP)
    uint32_t pair;
    __asm("pkhtb %0, %1, %2, asr #16" : "=r"(pair) : "r"(b), "r"(a));
    return pair;
#else
    return a >> 16 | (b & 0xFFFF0000u);
#endif
}

/* Each of four bytes beside that of another word, both plus the int16 of `offset`: two pairs to `to`, two to `on`. */
static inline void tt_zip(uint32_t *to, uint32_t *on, uint32_t first, uint32_t second, uint32_t offset)
{
    const uint32_t even = tt_even_plus(offset, first), odd = tt_odd_plus(offset, first);
    const uint32_t with_even = tt_even_plus(offset, second), with_odd = tt_odd_plus(offset, second);
    to[0] = tt_lower(even, with_even);
    to[1] = tt_lower(odd, with_odd);
    on[0] = tt_upper(even, with_even);
    on[1] = tt_upper(odd, with_odd);
}

/* Eight sums, what they are made of and both pointers take each register that there is: functions of their own, which all kernels share.
 *
 * tt_tiles: sums[count][2][4] = start[2][4] + Σ over `steps` of the pairs a[count][step][2] times b[step][4]. At least one of each.
 * tt_taps: sums[3][2] = Σ over rows of `pairs` steps of the pairs a[step][2] times those of b, b + 4 and b + 8 words, which go on by 8; of
 * a, every other two words count. Behind a row b_skip bytes of b are left out. At least one row of one step.
 * tt_lanes: sums[8] += Σ over runs of words of the bytes 0, 2 and 1, 3 of a[word] times the pairs b[word][2][8]; behind each run so many
 * bytes of a and of b are left out. At least one run of one word. */
#if defined(__ARM_FEATURE_DSP)
#define TT_STEP                                                                                                                    \
    "ldrd r2, r3, [r0], #8\n\tldrd r12, lr, [r1], #8\n\t"                                                                          \
    "smlad r4, r2, r12, r4\n\tsmlad r5, r2, lr, r5\n\tsmlad r8, r3, r12, r8\n\tsmlad r9, r3, lr, r9\n\t"                          \
    "ldrd r12, lr, [r1], #8\n\t"                                                                                                   \
    "smlad r6, r2, r12, r6\n\tsmlad r7, r2, lr, r7\n\tsmlad r10, r3, r12, r10\n\tsmlad r11, r3, lr, r11\n\t"

#define TT_FOUR_STEPS TT_STEP TT_STEP TT_STEP TT_STEP

/* Sixteen steps a turn, of 44 bytes each; the first turn is entered behind those that it is too long by. [sp]: b, that entry, the end of
 * the sums, where the next ones go, the end of b, start; then 9 saved registers, steps, count. */
__attribute__((naked, noinline, unused)) static void tt_tiles(
    __attribute__((unused)) const uint32_t *a, __attribute__((unused)) const uint32_t *b, __attribute__((unused)) const int32_t *start,
    __attribute__((unused)) int32_t *sums, __attribute__((unused)) int32_t steps, __attribute__((unused)) int32_t count)
{
    __asm("push {r4, r5, r6, r7, r8, r9, r10, r11, lr}\n\tsub sp, sp, #24\n\t"
          "ldrd r4, r5, [sp, #60]\n\tadd r5, r3, r5, lsl #5\n\tadd r6, r1, r4, lsl #4\n\t"
          "strd r5, r3, [sp, #8]\n\tstrd r6, r2, [sp, #16]\n\t"
          "rsb r4, r4, #0\n\tand r4, r4, #15\n\tmovs r5, #44\n\tmul r4, r4, r5\n\tadr r5, 2f\n\tadd r4, r4, r5\n\torr r4, r4, #1\n\t"
          "strd r1, r4, [sp]\n\t"
          "1:\n\tldr r2, [sp, #20]\n\tldmia r2, {r4, r5, r6, r7, r8, r9, r10, r11}\n\tldrd r1, r2, [sp]\n\tbx r2\n\t"
          ".balign 4\n\t"
          "2:\n\t" TT_FOUR_STEPS TT_FOUR_STEPS TT_FOUR_STEPS TT_FOUR_STEPS
          "ldr r2, [sp, #16]\n\tcmp r1, r2\n\tbne 2b\n\t"
          "ldrd r2, r3, [sp, #8]\n\tstmia r3!, {r4, r5, r6, r7, r8, r9, r10, r11}\n\tstr r3, [sp, #12]\n\tcmp r3, r2\n\tbne 1b\n\t"
          "add sp, sp, #24\n\tpop {r4, r5, r6, r7, r8, r9, r10, r11, pc}");
}
#undef TT_FOUR_STEPS
#undef TT_STEP

/* [sp]: the bytes of a row of a, the end of all rows; then a word, 9 saved registers, b_skip, sums. */
__attribute__((naked, noinline, unused)) static void tt_taps(
    __attribute__((unused)) const uint32_t *a, __attribute__((unused)) const uint32_t *b, __attribute__((unused)) int32_t pairs,
    __attribute__((unused)) int32_t rows, __attribute__((unused)) int32_t b_skip, __attribute__((unused)) int32_t *sums)
{
    __asm("push {r4, r5, r6, r7, r8, r9, r10, r11, lr}\n\tsub sp, sp, #12\n\t"
          "lsl r2, r2, #4\n\tmul r3, r3, r2\n\tadd r3, r3, r0\n\tstrd r2, r3, [sp]\n\t"
          "movs r4, #0\n\tmov r5, r4\n\tmov r6, r4\n\tmov r7, r4\n\tmov r8, r4\n\tmov r9, r4\n\tadd r2, r2, r0\n\t"
          "1:\n\tldrd r12, lr, [r1]\n\t"
          "2:\n\tldrd r10, r11, [r0], #16\n\tsmlad r4, r10, r12, r4\n\tsmlad r5, r11, lr, r5\n\t"
          "ldrd r3, r12, [r1, #16]\n\tsmlad r6, r10, r3, r6\n\tsmlad r7, r11, r12, r7\n\t"
          "ldrd r12, lr, [r1, #32]!\n\tsmlad r8, r10, r12, r8\n\tsmlad r9, r11, lr, r9\n\t"
          "cmp r0, r2\n\tbne 2b\n\t"
          "ldr r3, [sp, #48]\n\tadd r1, r1, r3\n\tldrd r3, r12, [sp]\n\tadd r2, r2, r3\n\tcmp r0, r12\n\tbne 1b\n\t"
          "ldr r3, [sp, #52]\n\tstmia r3, {r4, r5, r6, r7, r8, r9}\n\t"
          "add sp, sp, #12\n\tpop {r4, r5, r6, r7, r8, r9, r10, r11, pc}");
}

#define TT_LANES_STEP                                                                                                              \
    "ldrd r12, lr, [r1], #8\n\tsmlad r4, r2, r12, r4\n\tsmlad r5, r2, lr, r5\n\t"                                                  \
    "ldrd r12, lr, [r1], #8\n\tsmlad r6, r2, r12, r6\n\tsmlad r7, r2, lr, r7\n\t"                                                  \
    "ldrd r12, lr, [r1], #8\n\tsmlad r8, r2, r12, r8\n\tsmlad r9, r2, lr, r9\n\t"                                                  \
    "ldrd r12, lr, [r1], #8\n\tsmlad r10, r2, r12, r10\n\tsmlad r11, r2, lr, r11\n\t"
#define TT_LANES_WORD "ldr r3, [r0], #4\n\tsxtb16 r2, r3\n\t" TT_LANES_STEP "sxtb16 r2, r3, ror #8\n\t" TT_LANES_STEP

/* [sp]: the end of a run of words; then their count, that of runs, 9 saved registers, a_skip, b_skip, sums. */
__attribute__((naked, noinline, unused)) static void tt_lanes(
    __attribute__((unused)) const int8_t *a, __attribute__((unused)) const uint32_t *b, __attribute__((unused)) int32_t words,
    __attribute__((unused)) int32_t runs, __attribute__((unused)) int32_t a_skip, __attribute__((unused)) int32_t b_skip,
    __attribute__((unused)) int32_t *sums)
{
    __asm("push {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, lr}\n\t"
          "ldr r12, [sp, #56]\n\tldmia r12, {r4, r5, r6, r7, r8, r9, r10, r11}\n\t"
          "1:\n\tldr r2, [sp, #4]\n\tadd r3, r0, r2, lsl #2\n\tstr r3, [sp]\n\t"
          "rsb r2, r2, #0\n\tands r2, r2, #3\n\tbeq 2f\n\tcmp r2, #2\n\tblo 3f\n\tbeq 4f\n\tb 5f\n\t"
          "2:\n\t" TT_LANES_WORD "3:\n\t" TT_LANES_WORD "4:\n\t" TT_LANES_WORD "5:\n\t" TT_LANES_WORD
          "ldr r2, [sp]\n\tcmp r0, r2\n\tbne 2b\n\t"
          "ldr r2, [sp, #8]\n\tsubs r2, r2, #1\n\tstr r2, [sp, #8]\n\tldr r2, [sp, #48]\n\tadd r0, r0, r2\n\t"
          "ldr r2, [sp, #52]\n\tadd r1, r1, r2\n\tbne 1b\n\t"
          "ldr r12, [sp, #56]\n\tstmia r12, {r4, r5, r6, r7, r8, r9, r10, r11}\n\t"
          "add sp, sp, #12\n\tpop {r4, r5, r6, r7, r8, r9, r10, r11, pc}");
}
#undef TT_LANES_WORD
#undef TT_LANES_STEP
#else
static inline void tt_tiles(const uint32_t *a, const uint32_t *b, const int32_t *start, int32_t *sums, int32_t steps, int32_t count)
{
    for (int32_t i = 0; i < 8 * count; ++i) {
        sums[i] = start[i % 8];
        for (int32_t step = 0; step < steps; ++step) {
            sums[i] = tt_dot2(a[2 * (i / 8 * steps + step) + i / 4 % 2], b[4 * step + i % 4], sums[i]);
        }
    }
}

static inline void tt_taps(const uint32_t *a, const uint32_t *b, int32_t pairs, int32_t rows, int32_t b_skip, int32_t *sums)
{
    for (int32_t i = 0; i < 6; ++i) {
        sums[i] = 0;
        for (int32_t step = 0; step < pairs * rows; ++step) {
            const uint32_t *const row = b + step / pairs * (b_skip / 4);
            sums[i] = tt_dot2(a[4 * step + i % 2], row[8 * step + i / 2 * 4 + i % 2], sums[i]);
        }
    }
}

static inline void tt_lanes(
    const int8_t *a, const uint32_t *b, int32_t words, int32_t runs, int32_t a_skip, int32_t b_skip, int32_t *sums)
{
    for (int32_t word = 0; word < words * runs; ++word) {
        const int32_t run = word / words;
        const uint32_t four = tt_load4(a + 4 * word + run * a_skip);
        for (int32_t i = 0; i < 8; ++i) {
            const uint32_t *const pair = b + 16 * word + run * (b_skip / 4) + i;
            sums[i] = tt_dot2(tt_even(four), pair[0], tt_dot2(tt_odd(four), pair[8], sums[i]));
        }
    }
}
#endif

/* Tiles that start from 0; there need not be a step. */
static inline void tt_tile(const uint32_t *a, const uint32_t *b, int32_t steps, int32_t *sums, int32_t count)
{
    static const int32_t zeros[8] = { 0 };
    if (steps > 0) {
        tt_tiles(a, b, zeros, sums, steps, count);
        return;
    }
    for (int32_t i = 0; i < count; ++i) {
        tt_clear8(sums + 8 * i);
    }
}

#endif
