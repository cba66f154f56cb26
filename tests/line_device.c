/* SPDX-License-Identifier: Apache-2.0 */
/* A whole firmware without its port: bytes of the line go in and out by calls. For tests of the link on bad lines, and for libFuzzer. */
#define tt_link_serve tt_link_serve_for_ever
#include "tt_link.c"
#undef tt_link_serve

#include "port_uncounted.h"

#include <stdlib.h>
#include <string.h>

#define OUT_BYTES (1u << 20)

static const tt_model *served;
static struct {
    uint8_t bytes[OUT_BYTES];
    uint32_t count;
} line;

void tt_link_serve(const tt_model *m)
{
    served = m;
}

#define main firmware_main
#include "main.c"
#undef main

int tt_port_get(void)
{
    return -1;
}

void tt_port_put(uint8_t byte)
{
    if (line.count < OUT_BYTES) {
        line.bytes[line.count++] = byte;
    }
}

void tt_port_start(void)
{
}

void tt_port_flush(void)
{
}

void device_start(void);
uint32_t device_give(const uint8_t *bytes, uint32_t count, uint8_t *answer);

/* As after a reset. */
void device_start(void)
{
    memset(&state, 0, sizeof state);
    line.count = 0;
    (void)firmware_main();
}

/* The device takes these bytes; what it answers to them, at most OUT_BYTES, is counted and put into `answer`. */
uint32_t device_give(const uint8_t *bytes, uint32_t count, uint8_t *answer)
{
    line.count = 0;
    for (uint32_t i = 0; i < count; ++i) {
        tt_link_take(served, bytes[i]);
    }
    memcpy(answer, line.bytes, line.count);
    return line.count;
}
