/* SPDX-License-Identifier: Apache-2.0 */
#include "flash_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Positioned at byte `at` of the flash; NULL where there is no file to be had. */
static FILE *file_at(const tt_flash *flash, uint32_t at)
{
    static FILE *file;
    if (file == NULL) {
        const char *name = getenv("TINYTRAIN_FLASH");
        file = name == NULL ? tmpfile() : fopen(name, "r+b");
        if (file == NULL && name != NULL) {
            file = fopen(name, "w+b");
        }
    }
    return file != NULL && fseek(file, (long)(at - flash->base), SEEK_SET) == 0 ? file : NULL;
}

/* Behind its end nothing was ever written: that is erased. */
int flash_file_read(const tt_flash *flash, uint32_t at, void *to, uint32_t bytes)
{
    FILE *file = file_at(flash, at);
    if (file == NULL) {
        return 1;
    }
    const size_t got = fread(to, 1, bytes, file);
    memset((unsigned char *)to + got, 0xFF, bytes - got);
    return ferror(file) != 0;
}

int flash_file_erase(const tt_flash *flash, uint32_t page)
{
    unsigned char erased[64];
    FILE *file = file_at(flash, page);
    int failed = file == NULL;
    memset(erased, 0xFF, sizeof erased);
    for (uint32_t at = 0; at < flash->page_bytes && !failed; at += (uint32_t)sizeof erased) {
        failed = fwrite(erased, 1, sizeof erased, file) != sizeof erased;
    }
    return failed || fflush(file) != 0;
}

/* As in every NOR flash, bits that are 0 stay so. */
int flash_file_program(const tt_flash *flash, uint32_t at, const void *word)
{
    const unsigned char *from = word;
    unsigned char now[TT_FLASH_WORD_MAX];
    if (flash_file_read(flash, at, now, flash->word_bytes) != 0) {
        return 1;
    }
    for (uint32_t i = 0; i < flash->word_bytes; ++i) {
        now[i] &= from[i];
    }
    FILE *file = file_at(flash, at);
    return file == NULL || fwrite(now, 1, flash->word_bytes, file) != flash->word_bytes || fflush(file) != 0;
}
