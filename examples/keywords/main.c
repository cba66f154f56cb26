/* SPDX-License-Identifier: Apache-2.0 */
/* Keywords of one speaker. It listens; then the user enrols: says each word a few times, holding its button, and the model learns from these
 * windows, which are kept in RAM, for some rounds; then it listens again. */
#include "keywords_config.h"
#include "print.h"
#include "sensor.h"
#include "tt_port.h"

#define CHANNELS 10
#define LISTENED 30u /* words before, and after */
#define ENROLLED 18u
#define ROUNDS 12u

static keywords_ctx ctx;
static unsigned char arena[KEYWORDS_ARENA_BYTES] __attribute__((aligned(KEYWORDS_ARENA_ALIGN)));
static float words[ENROLLED][KEYWORDS_INPUT_ELEMENTS];
static int32_t buttons_held[ENROLLED];
static float scores[KEYWORDS_OUTPUT_ELEMENTS];

static int32_t word_read(float *word)
{
    for (int at = 0; at < KEYWORDS_INPUT_ELEMENTS; at += CHANNELS) {
        (void)sensor_read(word + at);
    }
    return button_read();
}

static int32_t best(void)
{
    int32_t found = 0;
    for (int32_t c = 1; c < KEYWORDS_OUTPUT_ELEMENTS; ++c) {
        found = scores[c] > scores[found] ? c : found;
    }
    return found;
}

/* How many words it hears rightly; only a recording knows. */
static tt_status listen(const char *when)
{
    uint32_t right = 0;
    tt_status status = TT_OK;
    for (uint32_t i = 0; i < LISTENED && status == TT_OK; ++i) {
        const int32_t said = word_read(words[0]);
        status = keywords_infer(&ctx, words[0], scores);
        right += best() == said;
    }
    print_text(when);
    print_number(right);
    print_text(" of ");
    print_number(LISTENED);
    print_text(" right");
    print_line();
    return status;
}

static tt_status enrol(void)
{
    tt_status status = TT_OK;
    for (uint32_t i = 0; i < ENROLLED; ++i) {
        buttons_held[i] = word_read(words[i]);
    }
    for (uint32_t step = 0; step < ROUNDS * ENROLLED && status == TT_OK; ++step) {
        float loss;
        status = keywords_train_step(&ctx, words[step % ENROLLED], &buttons_held[step % ENROLLED], &loss);
    }
    print_text("enrolled ");
    print_number(ENROLLED);
    print_text(" words");
    print_line();
    return status;
}

int main(void)
{
    tt_port_start();
    tt_status status = keywords_init(&ctx, arena, sizeof arena);
    status = status == TT_OK ? listen("before: ") : status;
    status = status == TT_OK ? enrol() : status;
    status = status == TT_OK ? listen("after: ") : status;
    print_text(status == TT_OK ? "end" : "failed");
    print_line();
    return 0;
}
