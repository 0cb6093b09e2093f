"""How a family writes the turns of a conversation."""

from dataclasses import dataclass, replace
from typing import Literal

from rewardhub.models.thoughts import EMPTY, Thinks
from rewardhub.models.tools import Answers, Calls

START, END = "<|im_start|>", "<|im_end|>"
INST, INST_END = "[INST]", "[/INST]"


@dataclass(frozen=True, slots=True)
class Style:
    """How a family writes turns; control tokens that it does not have are "".

    ``header`` names the role, by ``names`` where the family has a word of its own for it. With ``spaced``
    a turn of text begins with a space. ``system`` says where the system message stands: in a turn of its own, or in
    front of the first or the last user's text; "none" refuses those of prompts. ``lead`` begins every system message,
    and is one where there is none. ``trimmed`` says what loses the space around it: each text of a message, the whole
    of it, or the texts of answers alone. ``calls`` and ``answers`` are how calls of tools and what they answer are
    written, ``thinks`` how thoughts are. With ``tags`` a user's text stands between those, and an answer has no header.
    """

    begin: str = ""
    start: str = START
    header: str = "{role}\n"
    header_end: str = ""
    behind_header: str = ""
    end: str = END
    behind: str = "\n"
    names: tuple[tuple[str, str], ...] = ()
    spaced: bool = False
    system: Literal["turn", "first", "last", "none"] = "turn"
    lead: str = ""
    trimmed: Literal["", "each", "whole", "answers"] = ""
    calls: Calls = "json"
    answers: Answers = "role"
    thinks: Thinks = ""
    tags: "Tags | None" = None

    @property
    def controls(self) -> tuple[str, ...]:
        """The control tokens it writes."""
        tags = (INST, INST_END) if self.tags and self.tags.controls else ()
        return tuple(filter(None, (self.begin, self.start, self.header_end, *tags, self.end)))

    def with_thinking(self, thinking: bool | None) -> "Style":
        """The style with blocks of thoughts or without any; None leaves it as it is."""
        if thinking is None or thinking == bool(self.thinks):
            return self
        return replace(self, thinks="last" if thinking else "")

    @property
    def before_reply(self) -> str:
        """What stands in an answer's turn before a reply that is read without being written."""
        return EMPTY if self.thinks else ""


@dataclass(frozen=True, slots=True)
class Tags:
    """Mistral's [INST] and [/INST]: control tokens, or texts like any other.

    ``before`` stands in front of the first, ``inner`` between each of them and the user's text.
    """

    controls: bool
    before: str = ""
    inner: tuple[str, str] = ("", "")


CHATML = Style()
