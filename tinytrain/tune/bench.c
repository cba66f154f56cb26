/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the kernels of trial.c as the host asks (bench.py). A request is a letter, and with R the number of a kernel in two bytes:
 *   L  takes the inputs of the call, byte by byte          R  runs a kernel on them and answers with the CRC-32 of the outputs and with 1,
 *   D  answers with the outputs of the last kernel            or with 0 where bytes around its buffers are not what they were
 * Everything is little-endian. The counter runs while a kernel runs, and only then. */
#include "trial.h"
#include "tt_port.h"

#define GUARD 0xA5u
#define GARBAGE 0x7Fu /* what outputs hold before: as floats 3.4e38, so that a missed element shows */

static unsigned char arena[TRIAL_BYTES] __attribute__((aligned(16), section(".arena")));
static unsigned char *buffers[TRIAL_BUFFERS];

/* Buffers of the call, each with guards around; inputs first, then outputs, then scratch. */
static void place(void)
{
    uint32_t at = TRIAL_GUARD_BYTES;
    for (uint32_t i = 0; i < TRIAL_BYTES; ++i) {
        arena[i] = GUARD;
    }
    for (uint32_t i = 0; i < TRIAL_BUFFERS; ++i) {
        buffers[i] = arena + at;
        at += (trial_bytes[i] + TRIAL_GUARD_BYTES + 15u) & ~15u;
    }
}

static int whole(void)
{
    const unsigned char *from = arena;
    int kept = 1;
    for (uint32_t i = 0; i <= TRIAL_BUFFERS; ++i) {
        const unsigned char *to = i < TRIAL_BUFFERS ? buffers[i] : arena + TRIAL_BYTES;
        for (; from < to; ++from) {
            kept &= *from == GUARD;
        }
        from += i < TRIAL_BUFFERS ? trial_bytes[i] : 0u;
    }
    return kept;
}

static uint32_t crc32(uint32_t crc, const unsigned char *bytes, uint32_t count)
{
    crc = ~crc;
    for (uint32_t i = 0; i < count; ++i) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ (UINT32_C(0xEDB88320) & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

static void run(uint32_t number)
{
    uint32_t crc = 0;
    for (uint32_t o = TRIAL_INPUTS; o < TRIAL_BUFFERS; ++o) {
        for (uint32_t i = 0; i < trial_bytes[o]; ++i) {
            buffers[o][i] = GARBAGE;
        }
    }
    tt_port_count_start();
    trial_calls[number](buffers);
    (void)tt_port_count_stop();
    for (uint32_t o = TRIAL_INPUTS; o < TRIAL_INPUTS + TRIAL_OUTPUTS; ++o) {
        crc = crc32(crc, buffers[o], trial_bytes[o]);
    }
    for (int shift = 0; shift < 32; shift += 8) {
        tt_port_put((uint8_t)(crc >> shift));
    }
    tt_port_put((uint8_t)whole());
}

static uint32_t get(void)
{
    return (uint32_t)tt_port_get() & 255u;
}

int main(void)
{
    tt_port_start();
    tt_port_put('.'); /* from here on it listens */
    tt_port_flush();
    for (;;) {
        switch (get()) {
        case 'L':
            place();
            for (uint32_t b = 0; b < TRIAL_INPUTS; ++b) {
                for (uint32_t i = 0; i < trial_bytes[b]; ++i) {
                    buffers[b][i] = (unsigned char)get();
                }
            }
            tt_port_put('.');
            break;
        case 'R': {
            const uint32_t low = get();
            run(low | get() << 8);
            break;
        }
        case 'D':
            for (uint32_t o = TRIAL_INPUTS; o < TRIAL_INPUTS + TRIAL_OUTPUTS; ++o) {
                for (uint32_t i = 0; i < trial_bytes[o]; ++i) {
                    tt_port_put(buffers[o][i]);
                }
            }
            break;
        default:
            break;
        }
        tt_port_flush();
    }
}
