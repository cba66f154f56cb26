/* SPDX-License-Identifier: Apache-2.0 */
/* By these first two words of flash the ROM of an ESP32-C3 knows a program that runs where it lies; it maps 4 MB and goes on behind them
 * (Technical Reference Manual, chapter 7). */
#include <stdint.h>

extern const uint32_t tt_direct_boot[2];
__attribute__((section(".boot2"), used)) const uint32_t tt_direct_boot[2] = {0xAEDB041D, 0xAEDB041D};
