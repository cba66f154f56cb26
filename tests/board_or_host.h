/* SPDX-License-Identifier: Apache-2.0 */
/* How a test program that runs on a board and on the host (ON_HOST) starts, prints and ends. */
#ifndef BOARD_OR_HOST_H
#define BOARD_OR_HOST_H

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

#endif
