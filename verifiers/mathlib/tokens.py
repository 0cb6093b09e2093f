"""The tokeniser: an allow-list of signs, commands and words, each made into one token."""

import re
from typing import NamedTuple

from rewardhub.verifiers.mathlib.limits import Unparseable
from rewardhub.verifiers.mathlib.units import UNITS


class Token(NamedTuple):
    """``kind``: number, symbol, const, func, op, open, close, text, unit, mod, command; ``spaced``: a blank before."""

    kind: str
    text: str
    spaced: bool = False


_FUNCTIONS_TEXT = """
    sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan arccot ln log exp sqrt abs max min gcd
    lcm floor ceil det
"""
FUNCTIONS = frozenset(_FUNCTIONS_TEXT.split())
_GREEK_TEXT = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho
    sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell
"""
GREEK = frozenset(_GREEK_TEXT.split())
_WORDS = {
    "pi": ("const", "pi"), "inf": ("const", "oo"), "infinity": ("const", "oo"), "infty": ("const", "oo"),
    "oo": ("const", "oo"), "and": ("op", ","), "or": ("op", ","), "percent": ("op", "%"),
    "percentage": ("op", "%"), "pct": ("op", "%"), "asin": ("func", "arcsin"), "acos": ("func", "arccos"),
    "atan": ("func", "arctan"), "mod": ("mod", "mod"), "cdot": ("op", "*"), "times": ("op", "*"), "lg": ("func", "log"),
}  # fmt: skip
_COMMANDS = {
    "pi": ("const", "pi"), "infty": ("const", "oo"), "cdot": ("op", "*"), "times": ("op", "*"),
    "ast": ("op", "*"), "div": ("op", "/"), "pm": ("op", "±"), "mp": ("op", "∓"), "le": ("op", "<="),
    "leq": ("op", "<="), "leqslant": ("op", "<="), "ge": ("op", ">="), "geq": ("op", ">="),
    "geqslant": ("op", ">="), "lt": ("op", "<"), "gt": ("op", ">"), "ne": ("op", "!="), "neq": ("op", "!="),
    "in": ("op", "in"), "approx": ("op", "~"), "sim": ("op", "~"), "cup": ("op", "∪"), "cap": ("op", "∩"),
    "setminus": ("op", "∖"), "backslash": ("op", "∖"), "emptyset": ("const", "∅"), "varnothing": ("const", "∅"),
    "circ": ("unit", "°"), "degree": ("unit", "°"), "lfloor": ("open", "⌊"), "rfloor": ("close", "⌋"),
    "lceil": ("open", "⌈"), "rceil": ("close", "⌉"), "lvert": ("open", "|"), "rvert": ("close", "|"),
    "langle": ("open", "("), "rangle": ("close", ")"), "lbrace": ("open", "\\{"), "rbrace": ("close", "\\}"),
    "vert": ("op", "|"), "mid": ("op", "|"), "lor": ("op", ","), "lbrack": ("open", "["),
    "rbrack": ("close", "]"), "equiv": ("op", "="), "end": ("close", "end"),
    "ldots": ("symbol", "…"), "dots": ("symbol", "…"), "cdots": ("symbol", "…"),
    "colon": ("op", ":"), "to": ("op", "→"), "rightarrow": ("op", "→"), "longrightarrow": ("op", "→"),
    "pmod": ("mod", "mod"), "bmod": ("mod", "mod"),
    "mod": ("mod", "mod"), "pod": ("mod", "mod"), "imath": ("const", "i"), "lg": ("func", "log"),
}  # fmt: skip
_SIGNS = {
    "(": ("open", "("), ")": ("close", ")"), "[": ("open", "["), "]": ("close", "]"), "{": ("open", "{"),
    "}": ("close", "}"), "\\{": ("open", "\\{"), "\\}": ("close", "\\}"), "**": ("op", "^"), "<=": ("op", "<="),
    ">=": ("op", ">="), "!=": ("op", "!="), "==": ("op", "="), "\\\\": ("op", "\\\\"), "\\|": ("op", "|"),
    "\\$": ("unit", "$"), "$": ("unit", "$"), "\\%": ("op", "%"), "\\&": ("op", ","), "€": ("unit", "€"),
    "£": ("unit", "£"), "¥": ("unit", "¥"), "₹": ("unit", "₹"), "¢": ("unit", "¢"), "=<": ("op", "<="),
    ";": ("op", ","),
}  # fmt: skip
_STRUCTURE_TEXT = """
    frac sqrt binom dbinom tbinom begin overline bar vec hat angle triangle overrightarrow
    measuredangle widehat tilde choose over sum prod int iint oint lim
"""
_STRUCTURE = frozenset(_STRUCTURE_TEXT.split())
_COMMANDS_TEXT = """
    text textbf textit textrm textnormal mathrm mathbf mathit mathsf mbox hbox operatorname boldsymbol bm
    mathbb mathcal
"""
_TEXT = frozenset(_COMMANDS_TEXT.split())
_ROMAN = frozenset({"text", "textrm", "mathrm", "mbox", "rm"})
_UNIT_LETTERS = frozenset({*"mgsLhVNJWCKF", "in"})
_LETTERS = "mgslhvnjwcka"
KNOWN_WORDS = frozenset({*FUNCTIONS, *GREEK, *_WORDS, *UNITS})
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4}(?![A-Za-z0-9]))?)"
    r"|\\(?P<command>[A-Za-z]+)|(?P<word>[A-Za-z]+)"
    r"|(?P<sign>\*\*|<=|>=|!=|==|=<|\\\\|\\[{}$%&|]|[-+*/^_!=<>()\[\]{},;:|%&'$€£¥₹¢])"
)
_WORDED_NUMBER = re.compile(r"\\?\$?[-+]?\d[\d,]{0,30}(?:\.\d{1,30})?\$?(?:\s[a-z]{2,20}){0,3}\.?")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d+)?")
_COMMA_DECIMAL = re.compile(r"\d+,\d+(?![\d,])")
_GROUP = re.compile(r"\s*\{([^{}]*)\}|\s*([A-Za-z])")
_WORDS_TEXT = """
    yes all odd not any one two six ten red no on of is it the day
"""
_SHORT_WORDS = frozenset(_WORDS_TEXT.split())
_BRACKETS = frozenset("([")


def tokenise(text: str, *, decimal_comma: bool = False) -> list[Token]:
    """The tokens of a cleaned text; raises ``Unparseable`` at the first sign that the grammar lacks."""
    out: list[Token] = []
    at, depth, spaced = 0, 0, False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unparseable(f"unknown sign {text[at]!r}")
        kind, found = match.lastgroup or "", match[match.lastgroup or 0]
        at = match.end()
        if kind == "space":
            spaced = True
            continue
        if kind == "number":
            at, found = _number_at(text, match.start(), at, found, depth, decimal_comma)
            out.append(Token("number", found, spaced))
        elif kind == "command":
            at = _command(text, at, found, out, spaced)
        elif kind == "word":
            out.extend(_word(found, spaced, out))
        else:
            token = Token(*_SIGNS.get(found, ("op", found)), spaced)
            depth += (token.text in _BRACKETS or token.text == "\\{") - (token.text in {")", "]", "\\}"})
            out.append(token)
        spaced = False
    return out


def _number_at(text: str, start: int, end: int, found: str, depth: int, decimal_comma: bool) -> tuple[int, str]:
    """Commas group thousands outside brackets only, so that (1,234) stays a pair."""
    if end < len(text) and text[end] == "," and "." not in found:
        if depth == 0 and (match := _THOUSANDS.match(text, start)):
            return match.end(), match[0].replace(",", "")
        if decimal_comma and depth == 0 and (match := _COMMA_DECIMAL.match(text, start)):
            return match.end(), match[0].replace(",", ".")
    return end, found


def _command(text: str, at: int, name: str, out: list[Token], spaced: bool) -> int:
    if name in _TEXT:
        match = _GROUP.match(text, at)
        if match is None:
            raise Unparseable(f"\\{name} without a group")
        content = (match[1] or match[2] or "").strip()
        behind = bool(out) and out[-1].kind in {"number", "close", "unit"}
        if behind and name in _ROMAN and content in _UNIT_LETTERS:
            out.append(Token("unit", content, spaced))
        else:
            out.extend(_wrapped(name, content, spaced))
        return match.end()
    if name in _COMMANDS:
        out.append(Token(*_COMMANDS[name], spaced))
    elif name in _STRUCTURE:
        out.append(Token("command", name, spaced))
    elif name in FUNCTIONS:
        out.append(Token("func", name, spaced))
    elif name in GREEK:
        out.append(Token("symbol", name, spaced))
    elif name in UNITS:
        out.append(Token("unit", name, spaced))
    else:
        raise Unparseable(f"unknown command \\{name}")
    return at


def _wrapped(command: str, content: str, spaced: bool) -> list[Token]:
    r"""What ``\text{content}`` stands for."""
    if not content:
        return []
    if command in {"mathbb", "mathcal"}:
        return [Token("symbol", command + content, spaced)]
    if len(content) == 1 and content.isalpha():
        return [Token("symbol", content, spaced)] if content not in "ei" else _word(content, spaced, [])
    bare = content.strip(" .,").lower()
    if content in FUNCTIONS or bare in _WORDS:
        return _word(content if content in FUNCTIONS else bare, spaced, [])
    if bare.replace("-", "").replace(" ", "").isdigit():
        return tokenise(content)
    if _WORDED_NUMBER.fullmatch(content):
        return tokenise(content.replace("\\$", "$").strip("$. "))
    return [Token("unit" if _is_unit(bare) else "text", content, spaced)]


def _is_unit(words: str) -> bool:
    parts = words.replace("^", " ").replace("/", " ").replace(" per ", " ").replace(".", " ").split()
    letters = _LETTERS if len(parts) > 1 else ""
    return bool(parts) and all(
        part in UNITS or part.rstrip("s") in UNITS or part in "23" or part in letters for part in parts
    )


def _word(found: str, spaced: bool, before: list[Token]) -> list[Token]:
    """A run of letters outside a command: a known name, a unit behind a number, else single letters."""
    if found in FUNCTIONS:
        return [Token("func", found, spaced)]
    lower = found.lower() if len(found) > 1 else found
    if lower in _WORDS:
        return [Token(*_WORDS[lower], spaced)]
    if len(found) > 1 and found in GREEK:
        return [Token("symbol", found, spaced)]
    behind = bool(before) and before[-1].kind in {"number", "unit", "close"}
    if behind and (lower in UNITS or lower.removesuffix("s") in UNITS):
        return [Token("unit", lower, spaced)]
    if behind and lower == "per":
        return [Token("unit", "per", spaced)]
    if len(found) > 1 and spaced and before and before[-1].kind == "unit" and before[-1].text.isalpha():
        return [Token("text", found, spaced)]
    if len(found) == 1:
        return [Token("const", found, spaced) if found in "ei" else Token("symbol", found, spaced)]
    points = len(found) == 2 and found.isupper() and bool(before)  # the segment NO, not the word
    if len(found) > 3 or (lower in _SHORT_WORDS and not points):
        return [Token("text", found, spaced)]
    return [token for letter in found for token in _word(letter, spaced, [])]
