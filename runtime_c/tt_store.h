/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps learned weights in flash through power cuts: after each one there are the weights of the last save, or those of the one before.
 *
 * The pages are a ring. A save is one record, which begins at the page behind the newest one and never touches that: all pages wear alike.
 *
 *     head (56 bytes, then to the next word) | commit (one word) | body: tensors one behind the other, to the end of a word
 *
 * It is written as head, body, commit: the CRC-32 of head and body in the commit word is what makes it a record. What a later format may
 * not change: magic, version, bytes and commit of a record, at their places, so that this one knows an intact record when it sees it. */
#ifndef TT_STORE_H
#define TT_STORE_H

#include "tt_flash.h"
#include "tt_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TT_STORE_FORMAT UINT32_C(1)
#define TT_STORE_MAGIC UINT32_C(0x53577474) /* "ttWS" */

/* Flags of a save. */
#define TT_STORE_OPTIMISER UINT32_C(1) /* also the optimiser's state, so that training goes on with the same bits */

/* What there is to keep of a model. */
typedef struct {
    const uint8_t *hash;     /* of the model, the first 16 bytes count */
    const tt_param *params;  /* weights, then the state of the optimiser */
    uint32_t weights, count; /* how many of `params` are weights, and how many there are */
    uint32_t layout[2];      /* hashes of names, sizes and types of the weights, that is of what the schemes train, and of the state */
} tt_stored;

/* Where training stands. */
typedef struct {
    uint32_t steps;
    uint32_t count; /* samples whose gradients are summed and not yet applied */
    uint32_t scheme;
} tt_progress;

typedef struct {
    uint32_t magic, version;
    uint32_t bytes;    /* of the body; 0: the weights were given back to the factory's */
    uint32_t sequence; /* from 1: the highest counts */
    uint32_t flags;
    uint8_t hash[16];
    uint32_t layout[2];
    tt_progress progress;
} tt_store_head;

typedef struct {
    tt_store_head head;
    uint32_t page; /* at which it begins */
} tt_record;

/* What the last save or load found. */
typedef struct {
    uint32_t sequence; /* of the record that counts, 0 for none */
    uint32_t torn;     /* 1 where the newest record is not whole: the power went while it was written, or the flash is worn */
    uint32_t foreign;  /* intact records of other models or schemes */
    uint32_t newer;    /* intact records of later formats */
} tt_store_report;

/* The newest record of this model. TT_ERROR_STORE_NEWER where any record has a later format; else without one TT_ERROR_STORE_FOREIGN, _TORN
 * or _EMPTY by what there is, the first that holds. TT_ERROR_FLASH: reading failed; TT_ERROR_ARGUMENT: geometry that tt_flash.h rules out.
 * Flags of the record are cleared of what this firmware has no use for. */
tt_status tt_store_find(const tt_stored *what, const tt_flash *flash, tt_record *found, tt_store_report *report);

/* A found record into the arena. TT_ERROR_FLASH: reading failed, part of the arena is then changed. */
tt_status tt_store_read(const tt_stored *what, const tt_flash *flash, const tt_record *found, unsigned char *arena);

/* A new record with what is in the arena. TT_ERROR_STORE_NEWER: there are records of a later format, which are kept; TT_ERROR_STORE_SPACE:
 * the pages do not hold two records; TT_ERROR_FLASH: not written, or it does not read as it was written. The record before counts until
 * this one does. */
tt_status tt_store_save(
    const tt_stored *what, const tt_flash *flash, const unsigned char *arena, const tt_progress *progress, uint32_t flags,
    tt_store_report *report);

/* From now on nothing is stored, at one stroke too; then what was stored is erased. Statuses as of a save. */
tt_status tt_store_forget(const tt_stored *what, const tt_flash *flash, tt_store_report *report);

#ifdef __cplusplus
}
#endif

#endif
