/* SPDX-License-Identifier: Apache-2.0 */
#include "flash_stm32f7.h"

#include "flash_stm32.h"

int flash_stm32f7_erase(const tt_flash *flash, uint32_t page)
{
    (void)flash;
    return flash_stm32_erase(page, 32u * 1024u);
}

int flash_stm32f7_program(const tt_flash *flash, uint32_t at, const void *word)
{
    return flash_stm32_program(at, word, flash->word_bytes);
}

int flash_stm32f7_read(const tt_flash *flash, uint32_t at, void *to, uint32_t bytes)
{
    (void)flash;
    return tt_flash_copy(at, to, bytes);
}
