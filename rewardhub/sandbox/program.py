"""A program to run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """A program in ``language``: ``text`` and then ``suffix``, whose end is the end of the program.

    ``exit_is_end``: without a suffix, leaving with exit code 0 by the language's own means counts as
    the end; what the program printed is then all that speaks for it. ``expressions`` (Python's) are
    evaluated behind the end; the run tells their values, ``as_json`` those that JSON knows. Behind a
    script, a program in Python with libraries, the ``probe`` runs, which finds the script's names in
    ``made`` and gives bytes to ``tell``. ``tests``: the last of the values are the names of the suffix's
    test functions that came to their end, one for each time. ``files`` are put beside a program that has no guard.
    """

    text: str
    suffix: str = ""
    language: str = "python"
    exit_is_end: bool = False
    expressions: tuple[str, ...] = ()
    as_json: bool = False
    probe: str = ""
    tests: bool = False
    files: tuple[tuple[str, bytes], ...] = ()
