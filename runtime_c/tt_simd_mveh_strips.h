/* SPDX-License-Identifier: Apache-2.0 */
/* Strips of halves in scratch, as the tiles of tt_simd_mveh_tiles.h read them: vectors of eight neighbours right behind each other, or turned,
 * so that what stood side by side are runs. */
#ifndef TT_SIMD_MVEH_STRIPS_H
#define TT_SIMD_MVEH_STRIPS_H

/* `count` vectors, `step` apart, to places of `lanes` halves. */
static inline void tt_copied_mveh(tt_half *to, int32_t lanes, const tt_half *from, int32_t step, int32_t count)
{
    for (int32_t i = 0; i < count; ++i, to += lanes, from += step) {
        tt_h_store_mveh(to, tt_h_load_mveh(from));
    }
}

/* Of `live` neighbours each becomes a run, `pitch` from the next; `count` times, `step` apart. */
static inline void tt_turned_mveh(tt_half *to, int32_t pitch, const tt_half *from, int32_t step, int32_t live, int32_t count)
{
#if TT_MVE_LOOPS
    const uint16x8_t eight = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)pitch);
    if (live == 8) {
        for (int32_t i = 0; i < count; ++i, ++to, from += step) {
            vstrhq_scatter_shifted_offset_u16(to, eight, vldrhq_u16(from));
        }
        return;
    }
    if (live == 4) {
        const uint32x4_t four = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)pitch);
        for (int32_t i = 0; i < count; ++i, ++to, from += step) {
            vstrhq_scatter_shifted_offset_u32(to, four, vldrhq_u32(from));
        }
        return;
    }
#endif
    for (int32_t i = 0; i < count; ++i) {
        for (int32_t v = 0; v < live; ++v) {
            to[v * pitch + i] = from[i * step + v];
        }
    }
}

/* Both, of a map: `rows` of them, each `to_row` and `from_row` from the next. */
TT_SHARED void tt_vectors_mveh(tt_half *to, int32_t lanes, int32_t to_row, const tt_half *from, int32_t from_row, int32_t step, int32_t rows,
                               int32_t cols)
{
    for (int32_t row = 0; row < rows; ++row, to += to_row, from += from_row) {
        tt_copied_mveh(to, lanes, from, step, cols);
    }
}

TT_SHARED void tt_columns_mveh(tt_half *to, int32_t pitch, int32_t to_row, const tt_half *from, int32_t from_row, int32_t step, int32_t live,
                               int32_t rows, int32_t cols)
{
    for (int32_t row = 0; row < rows; ++row, to += to_row, from += from_row) {
        tt_turned_mveh(to, pitch, from, step, live, cols);
    }
}

/* As tt_strip_runs, tt_strip_rows and tt_strip_zero of floats. */
TT_SHARED void tt_strip_runs_halves_mveh(tt_half *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count)
{
    for (int32_t v = 0; v < live; ++v, ++to, from += pitch) {
        int32_t i = 0;
#if TT_MVE_LOOPS
        const uint16x8_t steps = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)lanes);
        for (; i < (count & ~7); i += 8) {
            vstrhq_scatter_shifted_offset_u16(to + i * lanes, steps, vldrhq_u16(from + i));
        }
#endif
        for (; i < count; ++i) {
            to[i * lanes] = from[i];
        }
    }
}

TT_SHARED void tt_strip_rows_halves_mveh(tt_half *to, int32_t lanes, const tt_half *from, int32_t pitch, int32_t live, int32_t count, int32_t zero)
{
    if (live % 8 == 0) {
        for (int32_t v = 0; v < live; v += 8) {
            tt_copied_mveh(to + v, lanes, from + v, pitch, count);
        }
        return;
    }
    for (int32_t i = 0; i < count; ++i) {
        for (int32_t v = 0; v < live; ++v) {
            to[i * lanes + v] = from[i * pitch + v];
        }
    }
    (void)zero;
}

TT_SHARED void tt_strip_zero_halves_mveh(tt_half *to, int32_t count)
{
    for (; count >= 8; count -= 8, to += 8) {
        tt_h_store_mveh(to, tt_h_zero_mveh());
    }
    for (; count > 0; --count) {
        *to++ = 0;
    }
}

#endif
