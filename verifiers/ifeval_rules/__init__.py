"""The rules of ``ifeval``: 25 instruction types, read from a table, in English, Spanish, French, Japanese.

Types and meanings: Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models"
(google-research/instruction_following_eval), and M-IFEval for the other languages. ``table`` maps ids to
rules, ``locales`` holds what differs by language, the other files hold the checks.
"""
