"""The rubrics that ship: ``NAME.txt`` is the instruction, ``NAME.py`` what is shown, the form and the value."""
