/* SPDX-License-Identifier: Apache-2.0 */
/* QSPI flash behind RP2040 and RP2350, by the functions of their boot ROMs (RP2040 data sheet section 2.8.3, RP2350 data sheet section 5.4):
 * sectors of 4,096 bytes, programmed 256 at once, by addresses from 0x10000000. Meanwhile no code runs from flash: interrupts are off, and
 * the other core must not run from there. Afterwards an RP2350 reads flash as its ROM has set it up at start; an RP2040, until the next
 * reset, by the plain command 03h, more slowly than a second boot stage does. */
#ifndef FLASH_RP2_H
#define FLASH_RP2_H

#include "tt_flash.h"

TT_FLASH_DRIVER(flash_rp2);

#endif
