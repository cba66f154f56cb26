/* SPDX-License-Identifier: Apache-2.0 */
/* How a test program that runs on a board and on the host (ON_HOST) starts, prints hashes of what it computes, and ends. */
#ifndef BOARD_OR_HOST_H
#define BOARD_OR_HOST_H

#include <stdint.h>

#ifdef ON_HOST
#include <stdio.h>
static void start(void) { }
static void put(int byte) { putchar(byte); }
static void finish(void) { }
#else
#include "tt_port.h"
static void start(void) { tt_port_start(); }
static void put(int byte) { tt_port_put((uint8_t)byte); }
static void finish(void) { tt_port_flush(); for (;;) { } }
#endif

/* FNV-1a, going on from `hash`. */
static uint32_t hashed(uint32_t hash, const void *bytes, uint32_t count)
{
    const unsigned char *b = bytes;
    while (count-- > 0) {
        hash = (hash ^ *b++) * 16777619u;
    }
    return hash;
}

/* Eight hexadecimal digits, and what ends them. */
static void show(uint32_t word, int end)
{
    for (int shift = 28; shift >= 0; shift -= 4) {
        put("0123456789abcdef"[word >> shift & 15u]);
    }
    put(end);
}

#endif
