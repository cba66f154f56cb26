/* SPDX-License-Identifier: Apache-2.0 */
/* What training has changed: the bytes of weights that are no longer those of the factory.
 *
 *     magic | format | hash of the model (16 bytes) | layout of the weights | steps | runs ... | end (0xFFFFFFFF) | CRC-32 of all before it
 *     run:  tensor | first byte | bytes | as many bytes
 *
 * All numbers are 32 bits, the lowest byte first. Tensors are numbered as NAME_params() has them; runs do not overlap and none is empty. */
#ifndef TT_DELTA_H
#define TT_DELTA_H

#include "tt_store.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TT_DELTA_FORMAT UINT32_C(1)
#define TT_DELTA_MAGIC UINT32_C(0x44577474) /* "ttWD" */
#define TT_DELTA_LEAST_BYTES 40u            /* of a delta without runs */

/* Takes the next bytes of a delta, in order; what it answers other than TT_OK ends the export, which answers the same. */
typedef tt_status (*tt_sink)(void *with, const void *bytes, uint32_t count);

/* Memory as a sink: `with` points to one of these. TT_ERROR_LENGTH: it is full. */
typedef struct {
    unsigned char *bytes;
    uint32_t room, used;
} tt_delta_buffer;
tt_status tt_delta_take(void *with, const void *bytes, uint32_t count);

/* The weights against `factory`, where each begins as it was compiled, NULL for zeros. */
tt_status tt_delta_export(
    const tt_stored *what, const void *const *factory, const unsigned char *arena, uint32_t steps, tt_sink take, void *with);

/* Whether these bytes are a whole delta for these weights: TT_ERROR_LENGTH: cut short, or with something behind it; TT_ERROR_FRAME: no delta,
 * or damaged; TT_ERROR_STORE_NEWER: of a later format; TT_ERROR_STORE_FOREIGN: of another model or scheme. */
tt_status tt_delta_check(const tt_stored *what, const void *delta, uint32_t bytes);

/* The runs of a delta that was checked over the weights of the factory; how many steps it is from there. */
uint32_t tt_delta_apply(const tt_stored *what, const void *delta, unsigned char *arena);

#ifdef __cplusplus
}
#endif

#endif
