"""How a family writes the turns of a conversation."""

from dataclasses import dataclass, replace
from typing import Literal

from rewardhub.models.thoughts import EMPTY, Thinks
from rewardhub.models.tools import Answers, Calls

START, END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Style:
    """How a family writes turns; control tokens that it does not have are "".

    ``header`` names the role, by ``names`` where the family has a word of its own for it. With ``spaced``
    a turn of text begins with a space. Without ``system_turn`` the system message stands in front of the
    first user's text. ``trimmed`` says what loses the space around it: each text of a message, or the whole of it.
    ``calls`` and ``answers`` are how calls of tools and what they answer are written, ``thinks`` how thoughts are.
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
    system_turn: bool = True
    trimmed: Literal["", "each", "whole"] = ""
    calls: Calls = "json"
    answers: Answers = "role"
    thinks: Thinks = ""

    @property
    def controls(self) -> tuple[str, ...]:
        """The control tokens it writes."""
        return tuple(filter(None, (self.begin, self.start, self.header_end, self.end)))

    def with_thinking(self, thinking: bool | None) -> "Style":
        """The style with blocks of thoughts or without any; None leaves it as it is."""
        if thinking is None or thinking == bool(self.thinks):
            return self
        return replace(self, thinks="last" if thinking else "")

    @property
    def before_reply(self) -> str:
        """What stands in an answer's turn before a reply that is read without being written."""
        return EMPTY if self.thinks else ""


CHATML = Style()
