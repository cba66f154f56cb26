/* SPDX-License-Identifier: Apache-2.0 */
/* Types shared by every generated model, its kernels and the runtime. */
#ifndef TT_TYPES_H
#define TT_TYPES_H

#include <stddef.h>
#include <stdint.h>

/* What a call answers. Values are part of the link protocol: only append. */
typedef enum {
    TT_OK = 0,
    TT_ERROR_ARENA = 1,     /* arena too small or not aligned */
    TT_ERROR_ARGUMENT = 2,  /* null pointer, or an index or offset out of range */
    TT_ERROR_LABEL = 3,     /* class label outside [0, classes) */
    TT_ERROR_FRAME = 4,     /* link: damaged frame, nothing was executed */
    TT_ERROR_COMMAND = 5,   /* unknown command, or one that this firmware was not compiled for */
    TT_ERROR_LENGTH = 6,    /* link: payload of the wrong length */
    TT_ERROR_STACK = 7,     /* the guard below the stack was overwritten */
    TT_ERROR_FAULT = 8,     /* the processor took a fault */
    TT_ERROR_OVERFLOW = 9,  /* gradients overflow in one step after another, at any loss scale: no weight was changed by them */
    TT_ERROR_NOT_FINITE = 10, /* sample, loss or a gradient is infinite or not a number: what would be made of it is left out */
    TT_MORE = 11,             /* a step in pieces has some left */
    TT_ERROR_BUSY = 12,       /* a step in pieces is not at its end */
    TT_ERROR_STORE_EMPTY = 16,   /* nothing of this model is stored */
    TT_ERROR_STORE_TORN = 17,    /* nothing whole is stored */
    TT_ERROR_STORE_FOREIGN = 18, /* what is stored belongs to another model, or to another scheme */
    TT_ERROR_STORE_NEWER = 19,   /* what is stored has a later format than this firmware knows: it is left as it is */
    TT_ERROR_STORE_SPACE = 20,   /* the flash does not hold two records */
    TT_ERROR_FLASH = 21          /* the flash does not do what it is told, or does not read as it was written */
} tt_status;

/* Element types, by the tags of the compiler's DType. */
typedef enum { TT_F32 = 0, TT_F16 = 1, TT_S8 = 2, TT_S16 = 3, TT_S32 = 4, TT_U8 = 5 } tt_tag;

/* A tensor that can be read and written while the model runs. */
typedef struct {
    const char *name;
    uint32_t offset; /* bytes from the start of the arena */
    uint32_t bytes;
    tt_tag tag;
} tt_param;

/* The bits of a half-precision number: a way of storing a float, see tt_half.h. */
typedef uint16_t tt_half;

#endif
