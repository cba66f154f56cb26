/* SPDX-License-Identifier: Apache-2.0 */
/* Text over the serial port of the board, without a C library. */
#ifndef PRINT_H
#define PRINT_H

#include <stdint.h>

void print_text(const char *text);
void print_number(uint32_t number);
void print_line(void); /* ends a line and sends it */

#endif
