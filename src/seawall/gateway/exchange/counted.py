"""What engines count in a whole answer (`usage`), and what decodes it.

Apart from `seam`, which is compiled: the compiler does not take classes whose kind is msgspec's.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from seawall.decide.route.resume.policy import MOST_TOKENS

TokenCount = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class Details(msgspec.Struct, gc=False):
    """Of a prompt's tokens."""

    cached_tokens: int | None = None


class Counted(msgspec.Struct, gc=False):
    """Tokens of a whole answer, as the engine counted them."""

    prompt_tokens: TokenCount = 0
    completion_tokens: TokenCount = 0
    prompt_tokens_details: Details | None = None
    estimated: ClassVar[bool] = False


class WithUsage(msgspec.Struct, gc=False):
    """An answer."""

    usage: Counted | None = None


class SamplingDefaults(msgspec.Struct, gc=False):
    """An engine's defaults for sampling."""

    max_new_tokens: int | None = None


USAGE = msgspec.json.Decoder(WithUsage)
