/* SPDX-License-Identifier: Apache-2.0 */
/* Serves a model over the serial port. The protocol is described in docs/link.md and spoken by tinytrain/device/link.py, commands are those of commands.py. */
#ifndef TT_LINK_H
#define TT_LINK_H

#include "tt_delta.h"
#include "tt_frame.h"
#include "tt_stats.h"
#include "tt_types.h"

#define TT_LINK_VERSION 3

/* Commands; only append. */
enum {
    TT_HELLO = 1,
    TT_INFER = 2,
    TT_TRAIN = 3,
    TT_EVALUATE = 4,
    TT_PARAM_INFO = 5,
    TT_READ_PARAM = 6,
    TT_WRITE_PARAM = 7,
    TT_SET_LR = 8,
    TT_COUNTERS = 9,
    TT_RESET = 10,
    TT_SET_SCHEME = 11,
    TT_SET_SKIP_BELOW = 12,
    TT_SAVE = 13,
    TT_LOAD = 14,
    TT_FACTORY_RESET = 15,
    TT_STATS = 16,
    TT_EXPORT_DELTA = 17,
    TT_IMPORT_DELTA = 18,
    TT_REMEMBER = 19,
    TT_SET_SKIP_ABOVE = 20
};

/* Head of a request; its payload follows, filled up to a multiple of four bytes. Little-endian, as all targets are. */
typedef struct {
    uint8_t command;
    uint8_t zero;
    uint16_t index;  /* of a parameter */
    uint32_t offset; /* bytes from the start of that parameter */
    uint32_t bytes;  /* of the payload */
} tt_request;

/* What main.c tells about its model. Functions that it was not compiled with are null. */
typedef struct {
    const char *name;
    const char *board;
    const uint8_t *hash; /* 32 bytes */
    uint32_t input_bytes;
    uint32_t target_bytes;
    uint32_t output_bytes;
    uint32_t arena_bytes;
    uint32_t ctx_bytes;
    uint32_t schemes;
    uint32_t param_count;
    uint32_t payload_bytes; /* of a request, at most */
    const tt_param *(*params)(void);
    unsigned char *arena;
    float *output;
    tt_request *request;
    unsigned char *input;   /* a sample; between two calls of the model, its place in the arena is free for any payload */
    unsigned char *target;
    const tt_piece *pieces; /* how these three follow each other in a request, its CRC behind: the target comes at the next multiple of 4 behind x */
    tt_status (*init)(void);
    tt_status (*infer)(const void *x, void *y);
    tt_status (*evaluate)(const void *x, const void *target, float *loss, void *y);
    tt_status (*train_step)(const void *x, const void *target, float *loss);
    tt_status (*remember)(const void *x, const void *target);
    void (*set_lr)(float lr);
    void (*set_skip_below)(float loss);
    void (*set_skip_above)(float loss);
    tt_status (*set_scheme)(uint32_t scheme);
    tt_status (*stats)(tt_device_stats *stats);
    tt_status (*export_delta)(tt_sink take, void *with);
    tt_status (*import_delta)(const void *delta, uint32_t bytes);
    tt_status (*keep)(uint32_t command, uint32_t flags); /* TT_SAVE, TT_LOAD or TT_FACTORY_RESET */
} tt_model;

/* The model of this firmware: main.c has it. */
extern const tt_model tt_served;

/* Takes one byte that has come, and answers where it ends a request: for a main loop that does other things, too. */
void tt_link_take(const tt_model *model, uint8_t byte);

/* Answers requests until the other side has gone; on a board, for ever. */
void tt_link_serve(const tt_model *model);

#endif
