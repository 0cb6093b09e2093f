"""Which kinds of card read which fields: one that is stated to no effect is a mistake, and is refused."""

HEADS = frozenset({"scalar", "cost", "outcome", "safety", "objectives", "process", "listwise", "critique"})
"""Kinds that read a reward head."""

LAID_OUT = HEADS | {"yes_no", "implicit", "pairwise"}
"""Kinds that show a model the prompt and the response, or two. Others compare texts or go on with a conversation, of
which nothing may be cut.
"""

ASKED = LAID_OUT | {"generative"}
"""Kinds that write chat turns, and have a decoder whose weights could be quantised."""

READ_BY = {
    "system": ASKED,
    "thinking": ASKED,
    "min_pixels": ASKED,
    "max_pixels": ASKED,
    "context": LAID_OUT,
    "truncation": LAID_OUT,
    "quantization": ASKED,
    "head": HEADS,
    "max_tokens": ASKED | {"sentence", "token_match"},
    "dtype": ASKED | {"sentence", "token_match", "similarity"},
    "choices": frozenset({"pairwise", "yes_no", "process"}),
    "question": frozenset({"yes_no", "generative"}),
    "instruction": frozenset({"pairwise"}),
    "votes": frozenset({"pairwise"}),
    "steps": frozenset({"process"}),
    "critique": frozenset({"critique"}),
    "pooling": frozenset({"sentence"}),
    "max_reply_tokens": frozenset({"generative"}),
}
"""The kinds that read a field; fields that are not named here are every kind's, or have rules of their own."""
