/* SPDX-License-Identifier: Apache-2.0 */
/* NOR flash in memory that loses power: it cuts one operation short and leaves its page or word in a state of many. */
#ifndef NOR_H
#define NOR_H

#include "tt_flash.h"

#define NOR_BYTES 8192
#define NOR_PAGES 128

/* What an operation that is cut short leaves behind: nothing, all of it, every other bit one way or the other, any bits of it, any bits. */
enum { NOR_NOTHING, NOR_ALL, NOR_EVEN, NOR_ODD, NOR_SOME, NOR_GARBAGE, NOR_OUTCOMES };

typedef struct {
    unsigned char bytes[NOR_BYTES];
    unsigned char programmed[NOR_BYTES]; /* since the page was erased, also where an attempt left no trace */
    uint32_t erased[NOR_PAGES];          /* how often */
    uint32_t operations;                 /* erasures and words since `nor_power` */
    uint32_t cut;                        /* the operation that is cut short, 0 for none */
    uint32_t outcome, random;
    int dead, broken; /* after a cut all fails; a broken flash forgets bits of what is programmed */
} nor;

tt_flash nor_flash(nor *n, uint32_t page_bytes, uint32_t pages, uint32_t word_bytes);

/* Power on. */
void nor_power(nor *n, uint32_t cut, uint32_t outcome);

#endif
