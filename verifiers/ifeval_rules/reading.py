"""One text, with what several rules read of it computed once."""

import re
from functools import cached_property

from rewardhub.verifiers.ifeval_rules.language import likeliest, ranking
from rewardhub.verifiers.ifeval_rules.sentences import sentence_count

_TOKEN = re.compile(r"\w+")
# Words joined by a hyphen, an apostrophe or a period are one: the classes are disjoint, so it is linear.
_JOINED = re.compile(r"[^\W_]+(?:[-'’.&][^\W_]+)*")


class Reading:
    """A response as the rules see it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._sentences: dict[tuple[str, int], int] = {}

    @cached_property
    def lower(self) -> str:
        return self.text.lower()

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def words(self) -> int:
        """The number of runs of letters, digits and underscores."""
        return len(_TOKEN.findall(self.text))

    @cached_property
    def capital_words(self) -> int:
        """The number of words without a small letter; "DON'T", "CO-OP" and "U.S." are one each."""
        return 0 if self.text.islower() else sum(map(str.isupper, _JOINED.findall(self.text)))

    def sentences(self, language: str, most: int) -> int:
        """The number of sentences by the conventions of a language, counted no further than ``most``."""
        key = (language, most)
        if key not in self._sentences:
            self._sentences[key] = sentence_count(self.text, language, most)
        return self._sentences[key]

    @cached_property
    def _ranking(self) -> tuple[str, ...]:
        return ranking(self.text)

    def language(self, wanted: str) -> str:
        """The likeliest language; empty where the text holds no letter."""
        return likeliest(self._ranking, wanted)
