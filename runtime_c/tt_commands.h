/* SPDX-License-Identifier: Apache-2.0 */
/* What the requests of the link do, and what is answered to them: made from what they have left, so it can be said any number of times. */
#ifndef TT_COMMANDS_H
#define TT_COMMANDS_H

#include "tt_link.h"

typedef void tt_say(const void *data, uint32_t bytes);

/* The request's payload lies where the model's `pieces` say. */
tt_status tt_execute(const tt_model *m, const tt_request *r);

/* Says the payload of the answer to the request that was executed last, piece by piece. */
void tt_tell(const tt_model *m, const tt_request *r, tt_status status, tt_say *say);

/* With the zero that ends it. */
void tt_say_text(tt_say *say, const char *text);

#endif
