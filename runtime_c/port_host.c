/* SPDX-License-Identifier: Apache-2.0 */
/* The host twin: standard input and output stand for the serial port. There is no counter and no stack to watch. */
#include "port_uncounted.h"

#include <unistd.h>

#define IN_BYTES 65536
#define OUT_BYTES 4096

static struct {
    uint8_t in[IN_BYTES], out[OUT_BYTES];
    size_t used, filled, waiting;
} port;

void tt_port_start(void)
{
}

int tt_port_get(void)
{
    if (port.used == port.filled) {
        const ssize_t got = read(STDIN_FILENO, port.in, sizeof port.in);
        if (got <= 0) {
            return -1;
        }
        port.used = 0;
        port.filled = (size_t)got;
    }
    return port.in[port.used++];
}

void tt_port_put(uint8_t byte)
{
    port.out[port.waiting++] = byte;
    if (port.waiting == sizeof port.out) {
        tt_port_flush();
    }
}

void tt_port_flush(void)
{
    size_t sent = 0;
    while (sent < port.waiting) {
        const ssize_t got = write(STDOUT_FILENO, port.out + sent, port.waiting - sent);
        if (got <= 0) {
            _exit(1); /* nobody listens any more */
        }
        sent += (size_t)got;
    }
    port.waiting = 0;
}
