/* SPDX-License-Identifier: Apache-2.0 */
#include "nor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE UINT32_C(0x08010000)

static unsigned char any(nor *n)
{
    n->random = n->random * UINT32_C(1664525) + UINT32_C(1013904223);
    return (unsigned char)(n->random >> 24);
}

/* The bits that have reached their new value. */
static unsigned char reached(nor *n)
{
    const unsigned char of[] = {0x00, 0xFF, 0x55, 0xAA};
    return n->outcome < NOR_SOME ? of[n->outcome] : any(n);
}

static void change(nor *n, uint32_t at, const unsigned char *to, uint32_t bytes, int cut)
{
    for (uint32_t i = 0; i < bytes; ++i) {
        unsigned char *b = &n->bytes[at + i];
        const unsigned char wanted = to ? (unsigned char)(*b & to[i]) : 0xFF, mask = cut ? reached(n) : 0xFF;
        *b = cut && n->outcome == NOR_GARBAGE ? any(n) : (unsigned char)((*b & ~mask) | (wanted & mask));
    }
}

static int starts(nor *n, uint32_t at, uint32_t end, uint32_t unit)
{
    if (n->dead) {
        return 0;
    }
    if (at % unit != 0 || end > NOR_BYTES) {
        fprintf(stderr, "operation at %u is not one of the flash\n", (unsigned)at);
        abort();
    }
    n->dead = ++n->operations == n->cut;
    return 1;
}

static int erase(const tt_flash *flash, uint32_t page)
{
    nor *n = flash->driver;
    const uint32_t at = page - flash->base;
    if (!starts(n, at, at + flash->page_bytes, flash->page_bytes)) {
        return 1;
    }
    change(n, at, NULL, flash->page_bytes, n->dead);
    memset(n->programmed + at, n->dead, flash->page_bytes); /* half erased is not erased */
    ++n->erased[at / flash->page_bytes];
    return n->dead;
}

static int program(const tt_flash *flash, uint32_t address, const void *word)
{
    nor *n = flash->driver;
    const uint32_t at = address - flash->base;
    if (!starts(n, at, at + flash->word_bytes, flash->word_bytes)) {
        return 1;
    }
    if (n->programmed[at]) {
        fprintf(stderr, "word at %u is programmed a second time\n", (unsigned)at);
        abort();
    }
    memset(n->programmed + at, 1, flash->word_bytes);
    change(n, at, word, flash->word_bytes, n->dead);
    if (n->broken) {
        n->bytes[at] ^= 1;
    }
    return n->dead;
}

static int fetch(const tt_flash *flash, uint32_t address, void *to, uint32_t bytes)
{
    nor *n = flash->driver;
    const uint32_t at = address - flash->base;
    if (bytes > flash->page_bytes * flash->pages || at > flash->page_bytes * flash->pages - bytes) {
        fprintf(stderr, "%u bytes at %u are read, beyond the end\n", (unsigned)bytes, (unsigned)at);
        abort();
    }
    memcpy(to, n->bytes + at, bytes);
    return n->dead;
}

tt_flash nor_flash(nor *n, uint32_t page_bytes, uint32_t pages, uint32_t word_bytes)
{
    const tt_flash flash = {erase, program, fetch, BASE, page_bytes, pages, word_bytes, n};
    memset(n, 0, sizeof *n);
    for (uint32_t i = 0; i < NOR_BYTES; ++i) {
        n->bytes[i] = any(n); /* whatever was there before */
        n->programmed[i] = 1;
    }
    return flash;
}

void nor_power(nor *n, uint32_t cut, uint32_t outcome)
{
    n->operations = 0;
    n->dead = 0;
    n->cut = cut;
    n->outcome = outcome;
}
