"""The rules of ``ifeval``: 25 instruction types, read from a table, in English, Spanish, French, Japanese.

Types and meanings: Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models"
(google-research/instruction_following_eval), and M-IFEval for the other languages. ``table`` maps ids to
rules, ``locales`` holds what differs by language, the other files hold the checks.
"""

_FILES = ("arguments", "language", "layout", "locales", "reading", "sentences", "table", "wording")
SOURCES = tuple(f"{__name__}.{name}" for name in _FILES)
"""The modules whose change changes verdicts."""
