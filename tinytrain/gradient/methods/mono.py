# SPDX-License-Identifier: Apache-2.0
"""mono: Mono-Forward. Each layer learns alone, from the cross entropy of a projection of what it gives to class scores.

    x → layer 1 → relu → M1 → scores → loss 1       and so on for each layer; no gradient goes through a second one

It is `local` with the network cut behind every layer and without hidden layers. The paper (Gong et al., arXiv 2501.09238) projects whole
maps; here means over a grid of 4x4 stand for a map (`gradient/heads.py`), whose projections would else be larger than the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.gradient.blocks import Blocks, Cut
from tinytrain.gradient.method import Step
from tinytrain.gradient.methods.local import Local


@dataclass(frozen=True)
class Mono(Local):
    key = "mono"
    numbers = ()

    def chosen(self, step: Step, blocks: Blocks) -> tuple[Cut, ...]:
        return blocks.even(blocks.counts[-1])
