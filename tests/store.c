/* SPDX-License-Identifier: Apache-2.0 */
/* The weight store on flash that loses power. `store cuts LONG` cuts every operation of saves; `store rules` is all else. */
#include "nor.h"
#include "tt_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES 512
#define UNTOUCHED 0xA5

#define CHECK(truth)                                                                       \
    do {                                                                                   \
        if (!(truth)) {                                                                    \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #truth, where); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

static char where[160];

static const tt_param params[] = {{"w", 8, 37, TT_S8}, {"b", 48, 24, TT_F32}, {"m", 80, 61, TT_S8}, {"t", 144, 4, TT_S32}};
static const uint8_t hash[32] = {1, 2, 3};
static const tt_stored model = {hash, params, 2, 4, {0x1234, 0x5678}};

typedef struct {
    nor nor;
    tt_flash flash;
    tt_store_report report;
    unsigned char arena[ARENA_BYTES];
} device;

/* Weights of generation `g`, everywhere: what is stored and what is not. */
static void learn(unsigned char *arena, uint32_t g)
{
    for (uint32_t i = 0; i < ARENA_BYTES; ++i) {
        arena[i] = (unsigned char)((g + 1u) * 2654435761u >> (i % 24)) ^ (unsigned char)i;
    }
}

static tt_status save(device *d, uint32_t g, uint32_t flags)
{
    const tt_progress progress = {g, g % 3, g % 2};
    learn(d->arena, g);
    return tt_store_save(&model, &d->flash, d->arena, &progress, flags, &d->report);
}

/* What is loaded after a start: status, and generation of the weights, of which every bit is looked at. */
static tt_status load(device *d, uint32_t *g, uint32_t flags)
{
    unsigned char want[ARENA_BYTES], learnt[ARENA_BYTES];
    tt_record found;
    memset(d->arena, UNTOUCHED, sizeof d->arena);
    memset(want, UNTOUCHED, sizeof want);
    tt_status status = tt_store_find(&model, &d->flash, &found, &d->report);
    if (status == TT_OK) {
        status = tt_store_read(&model, &d->flash, &found, d->arena);
        *g = found.head.progress.steps;
        CHECK(status == TT_OK && found.head.flags == flags && found.head.progress.count == *g % 3 && found.head.progress.scheme == *g % 2);
        learn(learnt, *g);
        for (uint32_t i = 0; i < (flags ? model.count : model.weights); ++i) {
            memcpy(want + params[i].offset, learnt + params[i].offset, params[i].bytes);
        }
    }
    CHECK(memcmp(want, d->arena, sizeof want) == 0);
    return status;
}

typedef struct {
    uint32_t page_bytes, pages, word_bytes, flags;
} geometry;

/* `before` saves, then one that is cut; `again` is the cut of the save after that, 0 for none. Returns 0 when there was nothing to cut. */
static int cut_case(const device *start, uint32_t before, uint32_t cut, uint32_t outcome, uint32_t again, int forgets, uint32_t flags)
{
    static device d;
    uint32_t g = 0;
    d = *start;
    d.flash.driver = &d.nor;
    snprintf(where, sizeof where, "%u pages of %u, word %u, flags %u: save %u, operation %u, outcome %u, then %u", (unsigned)d.flash.pages,
             (unsigned)d.flash.page_bytes, (unsigned)d.flash.word_bytes, (unsigned)flags, (unsigned)before, (unsigned)cut, (unsigned)outcome,
             (unsigned)again);
    nor_power(&d.nor, cut, outcome);
    const tt_status done = forgets ? tt_store_forget(&model, &d.flash, &d.report) : save(&d, before, flags);
    if (!d.nor.dead) {
        CHECK(done == TT_OK);
        return 0;
    }
    CHECK(done == TT_ERROR_FLASH);
    nor_power(&d.nor, 0, 0);
    const tt_status status = load(&d, &g, flags);
    const int newest = !forgets && status == TT_OK && g == before;
    if (!newest && (before == 0 || forgets)) {
        CHECK(status == TT_ERROR_STORE_EMPTY || status == TT_ERROR_STORE_TORN || (forgets && before > 0 && g == before - 1));
    } else if (!newest) {
        CHECK(status == TT_OK && g == before - 1);
    }
    const tt_status was = status;
    const uint32_t old = g;
    nor_power(&d.nor, again, outcome);
    const tt_status repeated = save(&d, 1000, flags);
    CHECK(repeated == (d.nor.dead ? TT_ERROR_FLASH : TT_OK));
    const int lost = d.nor.dead;
    nor_power(&d.nor, 0, 0);
    const tt_status at_last = load(&d, &g, flags);
    CHECK(at_last == TT_OK && g == 1000 ? 1 : lost && (was == TT_OK ? at_last == TT_OK && g == old : at_last != TT_OK));
    CHECK(save(&d, 1001, flags) == TT_OK);
    CHECK(load(&d, &g, flags) == TT_OK && g == 1001);
    CHECK(d.report.torn == 0);
    return 1;
}

static unsigned long cuts(const geometry *it, uint32_t histories, int repeated)
{
    static device d;
    unsigned long cases = 0;
    d.flash = nor_flash(&d.nor, it->page_bytes, it->pages, it->word_bytes);
    for (uint32_t before = 0; before < histories; ++before) {
        for (int forgets = 0; forgets < 2; ++forgets) {
            for (uint32_t outcome = 0; outcome < NOR_OUTCOMES; ++outcome) {
                for (uint32_t cut = 1; cut_case(&d, before, cut, outcome, 0, forgets, it->flags); ++cut) {
                    ++cases;
                    for (uint32_t again = 1; repeated && again < 40; again += 1 + cut % 5) {
                        cases += (unsigned long)cut_case(&d, before, cut, outcome, again, forgets, it->flags);
                    }
                }
            }
        }
        nor_power(&d.nor, 0, 0);
        CHECK(save(&d, before, it->flags) == TT_OK);
    }
    return cases;
}

static void rules(void)
{
    static device d, other;
    uint32_t g = 0;
    tt_stored foreign = model, grown = model, narrower = model;
    foreign.layout[0] = 1;  /* another scheme */
    grown.layout[1] = 1;    /* another optimiser */
    const uint8_t stranger[32] = {9};
    narrower.hash = stranger;
    const tt_progress progress = {7, 0, 0};

    snprintf(where, sizeof where, "wear");
    d.flash = nor_flash(&d.nor, 64, 7, 4);
    nor_power(&d.nor, 0, 0);
    CHECK(load(&d, &g, 0) == TT_ERROR_STORE_EMPTY);
    for (uint32_t i = 0; i < 700; ++i) {
        CHECK(save(&d, i, i % 5 == 0 ? TT_STORE_OPTIMISER : 0) == TT_OK);
        CHECK(load(&d, &g, i % 5 == 0 ? TT_STORE_OPTIMISER : 0) == TT_OK && g == i && d.report.torn == 0 && d.report.sequence == i + 1);
    }
    uint32_t least = d.nor.erased[0], most = least;
    for (uint32_t page = 0; page < 7; ++page) {
        least = d.nor.erased[page] < least ? d.nor.erased[page] : least;
        most = d.nor.erased[page] > most ? d.nor.erased[page] : most;
    }
    CHECK(most - least <= 1);
    printf("wear %u..%u\n", (unsigned)least, (unsigned)most);

    snprintf(where, sizeof where, "another optimiser keeps the weights");
    tt_record found;
    CHECK(save(&d, 3, TT_STORE_OPTIMISER) == TT_OK);
    CHECK(tt_store_find(&grown, &d.flash, &found, &d.report) == TT_OK && found.head.flags == 0 && found.head.progress.steps == 3);

    snprintf(where, sizeof where, "another scheme or model");
    other = d;
    other.flash.driver = &other.nor;
    CHECK(tt_store_find(&foreign, &other.flash, &found, &other.report) == TT_ERROR_STORE_FOREIGN && other.report.foreign >= 1);
    CHECK(tt_store_find(&narrower, &other.flash, &found, &other.report) == TT_ERROR_STORE_FOREIGN);
    CHECK(tt_store_save(&narrower, &other.flash, other.arena, &progress, 0, &other.report) == TT_OK);
    CHECK(tt_store_find(&narrower, &other.flash, &found, &other.report) == TT_OK && found.head.progress.steps == 7);

    snprintf(where, sizeof where, "forgotten");
    CHECK(tt_store_forget(&model, &d.flash, &d.report) == TT_OK && load(&d, &g, 0) == TT_ERROR_STORE_EMPTY);
    for (uint32_t i = 0, programmed = 0; i < 64 * 7; ++i) {
        programmed += d.nor.bytes[i] != 0xFF;
        CHECK(programmed <= 64); /* the record that says so is all there is */
    }
    CHECK(save(&d, 8, 0) == TT_OK && load(&d, &g, 0) == TT_OK && g == 8);

    snprintf(where, sizeof where, "a later format is refused and kept");
    other = d;
    other.flash.driver = &other.nor;
    CHECK(tt_store_find(&model, &other.flash, &found, &other.report) == TT_OK);
    unsigned char *head = other.nor.bytes + found.page * 64;
    head[4] = 2;
    CHECK(load(&other, &g, 0) == TT_ERROR_STORE_TORN && other.report.torn == 1);
    uint32_t crc = 0xFFFFFFFF;
    for (uint32_t i = 0; i < 56 + found.head.bytes; ++i) { /* bit by bit, unlike tt_crc.c */
        crc ^= i < 56 ? head[i] : other.nor.bytes[(found.page * 64 + 60 + i - 56) % (64 * 7)];
        for (int bit = 0; bit < 8; ++bit) {
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
        }
    }
    crc = ~crc;
    memcpy(head + 56, &crc, 4);
    memcpy(d.nor.bytes, other.nor.bytes, sizeof d.nor.bytes);
    CHECK(load(&other, &g, 0) == TT_ERROR_STORE_NEWER && save(&other, 9, 0) == TT_ERROR_STORE_NEWER && other.report.newer == 1);
    CHECK(tt_store_forget(&model, &other.flash, &other.report) == TT_ERROR_STORE_NEWER);
    CHECK(memcmp(d.nor.bytes, other.nor.bytes, sizeof d.nor.bytes) == 0);

    snprintf(where, sizeof where, "flash that cannot be");
    d.flash = nor_flash(&d.nor, 64, 3, 4);
    CHECK(save(&d, 0, 0) == TT_ERROR_STORE_SPACE && d.nor.operations == 0);
    const uint32_t wrong[][2] = {{96, 4}, {0, 4}, {64, 12}, {64, 128}, {1024, 512}, {64, 2 * TT_FLASH_WORD_MAX}};
    for (uint32_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        d.flash = nor_flash(&d.nor, wrong[i][0], 8, wrong[i][1]);
        CHECK(save(&d, 0, 0) == TT_ERROR_ARGUMENT);
    }

    snprintf(where, sizeof where, "worn flash");
    d.flash = nor_flash(&d.nor, 64, 8, 8);
    nor_power(&d.nor, 0, 0);
    CHECK(save(&d, 0, 0) == TT_OK);
    d.nor.broken = 1;
    CHECK(save(&d, 1, 0) == TT_ERROR_FLASH && load(&d, &g, 0) == TT_OK && g == 0);
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "rules") == 0) {
        rules();
        return 0;
    }
    if (count != 3 || strcmp(arguments[1], "cuts") != 0) {
        return 2;
    }
    const int thorough = atoi(arguments[2]);
    const geometry all[] = {
        {64, 4, 4, 0},    {64, 9, 4, TT_STORE_OPTIMISER}, {64, 10, 8, TT_STORE_OPTIMISER}, {64, 9, 16, 0},
        {128, 6, 32, 0},  {192, 5, 4, TT_STORE_OPTIMISER}, {256, 2, 4, 0},                  {1024, 2, 8, TT_STORE_OPTIMISER},
        {512, 4, 256, 0},
    };
    unsigned long cases = 0;
    for (uint32_t i = 0; i < sizeof all / sizeof *all; ++i) {
        cases += cuts(&all[i], thorough ? 3 * all[i].pages : all[i].pages + 1, thorough);
    }
    printf("cuts %lu\n", cases);
    return 0;
}
