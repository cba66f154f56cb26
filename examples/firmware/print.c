/* SPDX-License-Identifier: Apache-2.0 */
#include "print.h"

#include "tt_port.h"

void print_text(const char *text)
{
    while (*text) {
        tt_port_put((uint8_t)*text++);
    }
}

void print_number(uint32_t number)
{
    if (number >= 10u) {
        print_number(number / 10u); /* ten digits at most, so ten frames of stack */
    }
    tt_port_put((uint8_t)('0' + number % 10u));
}

void print_line(void)
{
    tt_port_put('\n');
    tt_port_flush();
}
