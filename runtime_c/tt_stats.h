/* SPDX-License-Identifier: Apache-2.0 */
/* What has happened to a model so far. */
#ifndef TT_STATS_H
#define TT_STATS_H

#include "tt_store.h"

typedef struct {
    uint32_t steps;      /* training samples, with those before what was loaded */
    uint32_t skipped;    /* samples since init whose loss was below or above the thresholds */
    uint32_t not_finite; /* samples since init that were left out, in whole or in part, because something was not finite */
    uint32_t overflowed; /* steps whose fp16 gradients overflowed; 0 where there are none */
    int32_t loss_scale;  /* fp16 gradients are 2^loss_scale times what they are on their way; 0 where there are none */
    tt_store_report store; /* what the last save or load found */
} tt_device_stats;

#endif
