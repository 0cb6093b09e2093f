"""What a card says otherwise than its checkpoint: told once, when it is loaded.

A chat template is a program, which is not run; its text is looked at.
"""

import logging
import re
from pathlib import Path

from rewardhub.models.card import Card
from rewardhub.models.chat import ChatTemplate
from rewardhub.models.checkpoint import chat_template

STATES = re.compile(r"You are Qwen[^'\"<\\\n]*|You are a helpful[^'\"<\\\n]*|Cutting Knowledge Date")
"""How default system messages of published templates begin."""
BLOCK = r"\n</think>\n\n"
"""The end of a block of thoughts, as the source of a template holds it."""

_log = logging.getLogger(__name__)


def note_template(card: Card, path: Path, template: ChatTemplate) -> list[str]:
    """What is told, each with the card's field that mends it; nothing of fields that the card states."""
    text = chat_template(path)
    found: list[str] = []
    if text and card.system is None and not template.style.lead and not _says(text, template.system):
        stated = STATES.search(text)
        theirs = f"seems to begin with {stated[0]!r}" if stated else "says nothing of that"
        found.append(
            f"where a prompt has no system message, {template.system or 'nothing'!r} is said, "
            f"and the checkpoint's chat template {theirs}: state `system` in the card"
        )
    if text and card.thinking is None and template.style.answers == "user":
        theirs_thinks = BLOCK in text
        if theirs_thinks != bool(template.style.thinks):
            found.append(
                f"the checkpoint's chat template seems to write {'a' if theirs_thinks else 'no'} block of thoughts in "
                f"front of an answer: set `thinking = {str(theirs_thinks).lower()}` in the card"
            )
    for each in found:
        _log.warning("%s: %s", card.name, each)
    return found


def note_measured(card: Card, fingerprint: str) -> str:
    """What is told where the card's ``[measured]`` is not of the model that was loaded; "" where it is."""
    if card.measured is None or card.measured.fingerprint == fingerprint:
        return ""
    told = (
        "the table [measured] is of another model than this: weights, card, device or libraries changed since; "
        "measure anew with `rewardhub models drift --write`"
    )
    _log.warning("%s: %s", card.name, told)
    return told


def _says(text: str, system: str) -> bool:
    """Whether the template says this system message by itself, or none where there is none."""
    if not system:
        return STATES.search(text) is None
    return re.search(rf"(?:\\n|[\n'\">]){re.escape(system)}['\"<\\\n]", text) is not None
