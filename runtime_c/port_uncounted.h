/* SPDX-License-Identifier: Apache-2.0 */
/* What tt_port.h asks of a port that has no counter, and no stack of its own to watch. For the one source file that is the port. */
#ifndef PORT_UNCOUNTED_H
#define PORT_UNCOUNTED_H

#include "tt_port.h"

uint32_t tt_port_clock_hz(void)
{
    return 0;
}

void tt_port_count_start(void)
{
}

uint64_t tt_port_count_stop(void)
{
    return 0;
}

uint32_t tt_stack_bytes(void)
{
    return 0;
}

uint32_t tt_stack_used(void)
{
    return 0;
}

int tt_stack_intact(void)
{
    return 1;
}

#endif
