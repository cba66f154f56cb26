/* SPDX-License-Identifier: Apache-2.0 */
#include "flash_cfi.h"

#define BOTH(command) (UINT32_C(0x00010001) * (command))

#define READ_ARRAY BOTH(0xFFu)
#define READ_STATUS BOTH(0x70u)
#define CLEAR_STATUS BOTH(0x50u)
#define UNLOCK BOTH(0x60u) /* with CONFIRM: blocks are locked at power-on */
#define PROGRAM BOTH(0x40u)
#define ERASE BOTH(0x20u)
#define CONFIRM BOTH(0xD0u)
#define READY BOTH(0x80u)
#define FAILED BOTH(0x3Au) /* erase, program, voltage, locked */

static volatile uint32_t *word_at(uint32_t at)
{
    return (volatile uint32_t *)(uintptr_t)at;
}

/* Two cycles, the end of what they begin, and back to reading. */
static int command(volatile uint32_t *at, uint32_t first, uint32_t second)
{
    *at = first;
    *at = second;
    *at = READ_STATUS;
    uint32_t status;
    do {
        status = *at;
    } while ((status & READY) != READY);
    *at = CLEAR_STATUS;
    *at = READ_ARRAY;
    return (status & FAILED) != 0;
}

int flash_cfi_erase(const tt_flash *flash, uint32_t page)
{
    (void)flash;
    return command(word_at(page), UNLOCK, CONFIRM) != 0 || command(word_at(page), ERASE, CONFIRM) != 0;
}

int flash_cfi_program(const tt_flash *flash, uint32_t at, const void *word)
{
    const uint32_t *from = word;
    for (uint32_t i = 0; i < flash->word_bytes / 4u; ++i) {
        if (command(word_at(at + 4u * i), PROGRAM, from[i]) != 0) {
            return 1;
        }
    }
    return 0;
}

int flash_cfi_read(const tt_flash *flash, uint32_t at, void *to, uint32_t bytes)
{
    (void)flash;
    return tt_flash_copy(at, to, bytes);
}
