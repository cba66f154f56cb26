/* SPDX-License-Identifier: Apache-2.0 */
#include "tt_store.h"

#include "tt_crc.h"

#define ERASED 0xFFu
#define WORDS_MAX (TT_FLASH_WORD_MAX / 4u)

typedef char tt_head_has_no_gaps[sizeof(tt_store_head) == 56 ? 1 : -1];

static uint32_t word_bytes(const tt_flash *flash)
{
    return flash->word_bytes < 4u ? 4u : flash->word_bytes;
}

static uint32_t to_word(const tt_flash *flash, uint32_t bytes)
{
    return (bytes + word_bytes(flash) - 1u) & ~(word_bytes(flash) - 1u);
}

static uint32_t commit_at(const tt_flash *flash)
{
    return to_word(flash, (uint32_t)sizeof(tt_store_head));
}

static uint32_t body_at(const tt_flash *flash)
{
    return commit_at(flash) + word_bytes(flash);
}

static uint32_t pages_of(const tt_flash *flash, uint32_t body_bytes)
{
    return (body_at(flash) + body_bytes - 1u) / flash->page_bytes + 1u;
}

/* Whether the flash can be what it says it is. */
static int possible(const tt_flash *flash)
{
    const uint32_t word = word_bytes(flash);
    return word <= TT_FLASH_WORD_MAX && (word & (word - 1u)) == 0 && flash->page_bytes != 0 && flash->page_bytes % word == 0 &&
           flash->page_bytes % 64u == 0 && flash->pages != 0 && flash->pages <= UINT32_MAX / flash->page_bytes;
}

/* Page `n` of the ring, where the count goes round. */
static uint32_t ring(const tt_flash *flash, uint32_t n)
{
    return n < flash->pages ? n : n - flash->pages;
}

/* Address of byte `at` of a record that begins at `page`. */
static uint32_t address(const tt_flash *flash, uint32_t page, uint32_t at)
{
    return flash->base + ring(flash, page + at / flash->page_bytes) * flash->page_bytes + at % flash->page_bytes;
}

/* Bytes of a record, page by page. */
static int read_record(const tt_flash *flash, uint32_t page, uint32_t at, void *to, uint32_t bytes)
{
    unsigned char *t = (unsigned char *)to;
    while (bytes > 0) {
        const uint32_t left = flash->page_bytes - at % flash->page_bytes, n = bytes < left ? bytes : left;
        if (flash->read(flash, address(flash, page, at), t, n) != 0) {
            return 1;
        }
        t += n;
        at += n;
        bytes -= n;
    }
    return 0;
}

/* CRC of head and body as they stand in flash. */
static int checked(const tt_flash *flash, uint32_t page, const tt_store_head *head, uint32_t *crc)
{
    unsigned char some[32];
    uint32_t at = body_at(flash), left = head->bytes, now = tt_crc(TT_CRC_START, head, (uint32_t)sizeof *head);
    while (left > 0) {
        const uint32_t n = left < sizeof some ? left : (uint32_t)sizeof some;
        if (read_record(flash, page, at, some, n) != 0) {
            return 1;
        }
        now = tt_crc(now, some, n);
        at += n;
        left -= n;
    }
    *crc = ~now;
    return 0;
}

static uint32_t bytes_of(const tt_stored *what, uint32_t flags)
{
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < ((flags & TT_STORE_OPTIMISER) != 0 ? what->count : what->weights); ++i) {
        bytes += what->params[i].bytes;
    }
    return bytes;
}

static int same(const uint8_t *a, const uint8_t *b, uint32_t bytes)
{
    while (bytes > 0 && *a == *b) {
        ++a;
        ++b;
        --bytes;
    }
    return bytes == 0;
}

static int is_own(const tt_stored *what, const tt_store_head *head)
{
    const uint32_t least = head->bytes == 0 ? 0u : bytes_of(what, head->layout[1] == what->layout[1] ? head->flags : 0u);
    return same(head->hash, what->hash, (uint32_t)sizeof head->hash) && head->layout[0] == what->layout[0] && head->bytes >= least;
}

/* Looks at each page for a record that begins there; `page` of `newest` is only meant where its sequence is not 0. */
static tt_status scan(const tt_stored *what, const tt_flash *flash, tt_record *newest, tt_store_report *report)
{
    uint32_t torn = 0; /* highest sequence of what is not whole; what was forgotten and is half erased has a lower one than the newest */
    newest->head.sequence = 0;
    report->foreign = 0;
    report->newer = 0;
    if (!possible(flash)) {
        return TT_ERROR_ARGUMENT;
    }
    for (uint32_t page = 0; page < flash->pages; ++page) {
        tt_store_head head;
        uint32_t commit, crc;
        if (read_record(flash, page, 0, &head, (uint32_t)sizeof head) != 0) {
            return TT_ERROR_FLASH;
        }
        if (head.magic != TT_STORE_MAGIC) {
            continue;
        }
        if (head.bytes > flash->pages * flash->page_bytes - body_at(flash)) {
            crc = commit = 0;
            torn = head.sequence > torn ? head.sequence : torn;
            continue;
        }
        if (read_record(flash, page, commit_at(flash), &commit, (uint32_t)sizeof commit) != 0 || checked(flash, page, &head, &crc) != 0) {
            return TT_ERROR_FLASH;
        }
        if (crc != commit) {
            torn = head.sequence > torn ? head.sequence : torn;
        } else if (head.version > TT_STORE_FORMAT) {
            ++report->newer;
        } else if (!is_own(what, &head)) {
            ++report->foreign;
        } else if (head.sequence > newest->head.sequence) {
            newest->head = head;
            newest->page = page;
        }
    }
    report->sequence = newest->head.sequence;
    report->torn = torn > newest->head.sequence;
    return report->newer != 0 ? TT_ERROR_STORE_NEWER : TT_OK;
}

tt_status tt_store_find(const tt_stored *what, const tt_flash *flash, tt_record *found, tt_store_report *report)
{
    const tt_status status = scan(what, flash, found, report);
    if (status != TT_OK) {
        return status;
    }
    if (found->head.sequence == 0 || found->head.bytes == 0) {
        return report->foreign != 0 ? TT_ERROR_STORE_FOREIGN : report->torn != 0 ? TT_ERROR_STORE_TORN : TT_ERROR_STORE_EMPTY;
    }
    found->head.flags &= found->head.layout[1] == what->layout[1] ? TT_STORE_OPTIMISER : 0u;
    return TT_OK;
}

tt_status tt_store_read(const tt_stored *what, const tt_flash *flash, const tt_record *found, unsigned char *arena)
{
    const uint32_t count = (found->head.flags & TT_STORE_OPTIMISER) != 0 ? what->count : what->weights;
    uint32_t at = body_at(flash);
    for (uint32_t i = 0; i < count; ++i) {
        const tt_param *p = &what->params[i];
        if (read_record(flash, found->page, at, arena + p->offset, p->bytes) != 0) {
            return TT_ERROR_FLASH;
        }
        at += p->bytes;
    }
    return TT_OK;
}

/* A record as it is written, word by word. */
typedef struct {
    const tt_flash *flash;
    uint32_t page, at, used, crc;
    uint32_t word[WORDS_MAX];
} writer;

static int program(writer *w)
{
    const int failed = w->flash->program(w->flash, address(w->flash, w->page, w->at), w->word);
    w->at += word_bytes(w->flash);
    w->used = 0;
    return failed;
}

static int put(writer *w, const void *data, uint32_t bytes)
{
    const unsigned char *from = (const unsigned char *)data;
    int failed = 0;
    w->crc = tt_crc(w->crc, data, bytes);
    while (bytes-- > 0 && !failed) {
        ((unsigned char *)w->word)[w->used++] = *from++;
        if (w->used == word_bytes(w->flash)) {
            failed = program(w);
        }
    }
    return failed;
}

/* The rest of a word that has begun is left as it was erased. */
static int end_word(writer *w)
{
    if (w->used == 0) {
        return 0;
    }
    while (w->used < word_bytes(w->flash)) {
        ((unsigned char *)w->word)[w->used++] = ERASED;
    }
    return program(w);
}

static int erase(const tt_flash *flash, uint32_t page, uint32_t pages)
{
    int failed = 0;
    for (uint32_t i = 0; i < pages && !failed; ++i) {
        failed = flash->erase(flash, address(flash, page, i * flash->page_bytes));
    }
    return failed;
}

/* The commit word is programmed only when what it stands for reads back as it should. */
static int write_record(
    const tt_stored *what, const tt_flash *flash, const unsigned char *arena, uint32_t page, const tt_store_head *head)
{
    writer w = {flash, page, 0, 0, TT_CRC_START, {0}};
    uint32_t crc;
    if (erase(flash, page, pages_of(flash, head->bytes)) != 0 || put(&w, head, (uint32_t)sizeof *head) != 0 || end_word(&w) != 0) {
        return 1;
    }
    w.at = body_at(flash);
    const tt_param *p = what->params;
    for (uint32_t left = head->bytes; left > 0; ++p) {
        if (put(&w, arena + p->offset, p->bytes) != 0) {
            return 1;
        }
        left -= p->bytes;
    }
    const uint32_t written = ~w.crc;
    if (end_word(&w) != 0 || checked(flash, page, head, &crc) != 0 || crc != written) {
        return 1;
    }
    w.at = commit_at(flash);
    return put(&w, &written, (uint32_t)sizeof written) != 0 || end_word(&w) != 0;
}

/* Gives `head` what all records have, and writes it with its body at `page`, behind the newest record. */
static tt_status add(
    const tt_stored *what, const tt_flash *flash, const unsigned char *arena, tt_store_head *head, uint32_t *page, tt_store_report *report)
{
    tt_record newest;
    const tt_status status = scan(what, flash, &newest, report);
    if (status != TT_OK) {
        return status;
    }
    const uint32_t need = pages_of(flash, head->bytes), taken = report->sequence == 0 ? 0u : pages_of(flash, newest.head.bytes);
    if (need > flash->pages / 2u || need + taken > flash->pages) {
        return TT_ERROR_STORE_SPACE;
    }
    *page = report->sequence == 0 ? 0u : ring(flash, newest.page + taken);
    head->magic = TT_STORE_MAGIC;
    head->version = TT_STORE_FORMAT;
    head->sequence = report->sequence + 1u;
    head->layout[0] = what->layout[0];
    head->layout[1] = what->layout[1];
    for (uint32_t i = 0; i < sizeof head->hash; ++i) {
        head->hash[i] = what->hash[i];
    }
    if (write_record(what, flash, arena, *page, head) != 0) {
        return TT_ERROR_FLASH;
    }
    report->sequence = head->sequence;
    report->torn = 0;
    return TT_OK;
}

tt_status tt_store_save(
    const tt_stored *what, const tt_flash *flash, const unsigned char *arena, const tt_progress *progress, uint32_t flags,
    tt_store_report *report)
{
    uint32_t page;
    tt_store_head head;
    head.flags = flags & TT_STORE_OPTIMISER;
    head.bytes = bytes_of(what, flags);
    head.progress = *progress;
    return add(what, flash, arena, &head, &page, report);
}

tt_status tt_store_forget(const tt_stored *what, const tt_flash *flash, tt_store_report *report)
{
    static const tt_progress none = {0, 0, 0};
    uint32_t page;
    tt_store_head head;
    head.flags = 0;
    head.bytes = 0;
    head.progress = none;
    const tt_status status = add(what, flash, 0, &head, &page, report);
    if (status != TT_OK) {
        return status;
    }
    report->foreign = 0;
    const uint32_t own = pages_of(flash, 0);
    return erase(flash, ring(flash, page + own), flash->pages - own) != 0 ? TT_ERROR_FLASH : TT_OK;
}
