"""Other spellings of the same answer, brought to the one that the grammar reads. Every pattern is linear."""

import re
from collections.abc import Callable

_SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉", "0123456789+-0123456789")
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+|[⁺⁻]")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_MARKS = re.compile("[\u2600-\u27bf\ufe0e\ufe0f\U0001f300-\U0001faff∎■□]+$|^∴")
_CHINESE_UNITS_TEXT = """
    个 元 角 分 米 厘米 分米 毫米 千米 公里 千克 克 吨 升 毫升 平方米 平方厘米 平方千米 立方米 立方厘米 人 只 天 小时
    分钟 秒 秒钟 度 岁 年 月 日 周 次 种 名 位 本 张 件 辆 棵 倍 页 块 支 条 斤 公斤 元钱 块钱
"""
_CHINESE = re.compile(rf"(?<=[\d)}}$])\s*(?:{'|'.join(sorted(_CHINESE_UNITS_TEXT.split(), key=len, reverse=True))})$")
_WITHOUT_MEANING = re.compile(
    r"\\(?:text)?color\s*\{[A-Za-z0-9!,. ]{0,40}\}|\\[hv]?phantom\s*\{[^{}]*\}"
    r"|\\(?:underline|ensuremath|num|therefore|because|checkmark|blacksquare|square|qed|tiny|small|normalsize|large"
    r"|Large|LARGE|huge|Huge|rm|bf|it)(?![A-Za-z])"
)
_ALIGNED = re.compile(r"^\\begin\s*\{(aligned|align\*?|gathered|split|equation\*?)\}(.*)\\end\s*\{\1\}$", re.DOTALL)
_CASES = re.compile(
    r"^(?:\\\{)?\s*\\begin\s*\{(cases|array|aligned)\}(?:\s*\{[lcr| ]{1,8}\})?(.*)\\end\s*\{\1\}\.?$", re.DOTALL
)
_REPEATING = re.compile(r"(\d{0,40})\.(\d{0,40})\\(?:overline|bar|dot)\s*(?:\{\s*(\d{1,40})\s*\}|(\d))")
_BRACES = re.compile(r"([\^_])\{(?:(\w)\}(?![0-9A-Za-z])|(\\[A-Za-z]+)\}(?![A-Za-z]))")
_PRIME = re.compile(r"\^\{?\\prime\}?")
_GROUPED = re.compile(r"([-+]?\\?\$?\s?)(\d{1,3}(?:[ \u2009\u202f]{1,2}\d{3}){1,8}(?:\.\d{1,40})?)")
_CROSS = re.compile(r"(?<=\d)\s?[xX]\s?(?=10\s?\^)")
_CURRENCY = (
    (re.compile(r"(?<![A-Za-z])(?:US|A|AU|C|CA|HK|NZ|S)\s?\\?\$\s?(?=[\d.])"), "$"),
    (re.compile(r"^(?:\\text\{\s*)?USD(?:\s*\})?\s*(?=[\d.])"), "$"),
    (re.compile(r"^(?:\\text\{\s*)?(?:EUR|\\euro)(?:\s*\})?\s*(?=[\d.])"), "€"),
    (re.compile(r"^(?:\\text\{\s*)?(?:GBP|\\pounds)(?:\s*\})?\s*(?=[\d.])"), "£"),
    (re.compile(r"^(?:\\text\{\s*)?(?:JPY|CNY|RMB|\\yen)(?:\s*\})?\s*(?=[\d.])"), "¥"),
    (re.compile(r"^(?:\\text\{\s*)?(?:INR|Rs\.?)(?:\s*\})?\s*(?=[\d.])"), "₹"),
)
_SHORTENED = re.compile(r"(?<![A-Za-z\\])(sq|ft|in|lb|lbs|oz|hr|hrs|min|sec|yr|yrs|cm|km|mm|kg)\.(?=\s|\}|$)")
_INCHES = re.compile(r"(?<=\d)\s?(?:\"|''|(?<=\s)in)$")
_CELSIUS = re.compile(r"\^?\\circ\s*(?:\\(?:text|mathrm)\{\s*([CF])\s*\}|([CF]))$")
_UNIT_OUTSIDE = re.compile(r"\$([^$]{1,200})\$\s?(\\?%|[A-Za-z][A-Za-z ]{0,30})$")
_CLOCK = re.compile(
    r"(?:\\text\{\s*)?(\d{1,2})\s?:\s?(\d{2})\s*\}?\s*(?:\\text\{\s*)?([AaPp])\.?\s?[Mm]\.?(?:\s*\})?\.?"
)
_FRENCH = re.compile(r"([\[\]])([^\[\](){}|]{1,200})([\[\]])")
_UNION = re.compile(r"\s*(?:\\cup(?![A-Za-z])|(?<=[)\]\[])\s*U\s*(?=[(\[\]]))\s*")
_REALS = re.compile(r"(?:\\(?:text|mathrm)\{\s*)?all real(?:s| numbers)\s*\}?", re.IGNORECASE)
_NOTHING = re.compile(
    r"(?:\\(?:text|mathrm)\{\s*)?(?:no (?:real |valid )?solutions?|(?:the )?empty set)\s*\}?", re.IGNORECASE
)
_BASES_TEXT = "two three four five six seven eight nine ten eleven twelve sixteen=16"
_BASES = {
    name.partition("=")[0]: name.partition("=")[2] or str(value) for value, name in enumerate(_BASES_TEXT.split(), 2)
}
_BASE = re.compile(r"_\{?\\(?:text|mathrm)\{\s*([a-z]+)\s*\}\}?")
_MODULO = re.compile(r"\(\s?(?:\\text\{\s?mod\s?\}|\\?[bp]?mod)\s?([^()]{1,12})\)")
_CONSTANT = re.compile(r"\+\s*c$")


def unaccented(text: str) -> str:
    """Without signs that carry no value: raised and lowered digits as scripts, ticks and trailing pictures gone."""
    text = _RAISED.sub(_raised, _LOWERED.sub(lambda match: "_{" + match[0].translate(_SCRIPTS) + "}", text))
    return _CHINESE.sub("", _MARKS.sub("", text)).strip()


def _raised(match: re.Match[str]) -> str:
    return "^{" + match[0].translate(_SCRIPTS) + "}"


def respelled(text: str) -> str:
    """LaTeX without colour and size, repeating decimals as fractions, and the other spellings of this file."""
    if "\\" in text:
        text = _system(text)
        aligned = _ALIGNED.match(text)
        text = _WITHOUT_MEANING.sub(" ", aligned[2].replace("&", "") if aligned else text)
        text = text[:-1] if text[-1:] == "\\" != text[-2:-1] else text
        text = _REPEATING.sub(_repeating, text)
        text = _PRIME.sub("'", _BASE.sub(_based, text))
    if text[:1] == "$" and text.count("$") == 2:
        text = _UNIT_OUTSIDE.sub(r"\1 \2", text)
    for applies, change in _RULES:
        if applies(text):
            text = change(text)
    return text.strip()


def _system(text: str) -> str:
    """A system of equations as the list of them; pieces with conditions stay as they are."""
    match = _CASES.match(text) if "begin" in text else None
    rows = [row.strip(" ,;") for row in match[2].split(r"\\")] if match and "&" not in match[2] else []
    rows = [row for row in rows if row]
    return ", ".join(rows) if len(rows) > 1 and all("=" in row for row in rows) else text


def _repeating(match: re.Match[str]) -> str:
    r"""``0.1\overline{6}`` is (16 - 1) / 90."""
    whole, fixed = match[1] or "0", match[2]
    period = match[3] or match[4]
    top = int(whole + fixed + period) - int(whole + fixed)
    bottom = "9" * len(period) + "0" * len(fixed)
    return rf"\frac{{{top}}}{{{bottom}}}"


def _based(match: re.Match[str]) -> str:
    return f"_{{{_BASES[match[1]]}}}" if match[1] in _BASES else match[0]


def bare_scripts(text: str) -> str:
    r"""``x^{2}`` as ``x^2`` and ``^{\circ}`` as ``^\circ``, where no letter or digit follows."""
    return _BRACES.sub(r"\1\2\3", text)


def _grouped(text: str) -> str:
    """``10 000`` as a whole answer is ten thousand."""
    match = _GROUPED.fullmatch(text)
    return match[1] + re.sub(r"[ \u2009\u202f]", "", match[2]) if match else text


def _currency(text: str) -> str:
    for pattern, sign in _CURRENCY:
        text = pattern.sub(sign, text)
    return text


def _united(text: str) -> str:
    """Unions written with U, and intervals in the form ``]a, b[``."""
    parts = _UNION.split(text)
    return r" \cup ".join(map(_standard, parts)) if len(parts) > 1 else _standard(text)


def _standard(text: str) -> str:
    match = _FRENCH.fullmatch(text.strip())
    if match is None or (match[1], match[3]) == ("[", "]"):
        return text
    return ("(" if match[1] == "]" else "[") + match[2] + (")" if match[3] == "[" else "]")


def _clock(text: str) -> str:
    match = _CLOCK.fullmatch(text.strip())
    return rf"{match[1]}:{match[2]}\text{{ {match[3].lower()}m}}" if match else text


def _worded(text: str) -> str:
    if _REALS.fullmatch(text):
        return r"\mathbb{R}"
    return r"\emptyset" if _NOTHING.fullmatch(text) else text


_RULES: tuple[tuple[Callable[[str], bool], Callable[[str], str]], ...] = (
    (lambda text: " " in text and text[-1].isdigit(), _grouped),
    (lambda text: "10" in text and ("x" in text or "X" in text), lambda text: _CROSS.sub(r"\\times ", text)),
    (lambda text: "$" in text or text[:1].isalpha() or text[:1] == "\\", _currency),
    (lambda text: "." in text and text[-1] not in "0123456789", lambda text: _SHORTENED.sub(r"\1", text)),
    (lambda text: text[-1:] in {'"', "'"} or text[-3:] == " in", lambda text: _INCHES.sub(" inches", text)),
    (lambda text: text[-1:] in {"C", "F", "}"} and "circ" in text, lambda text: _CELSIUS.sub(r"^\\circ ", text)),
    (lambda text: ":" in text and ("m" in text or "M" in text), _clock),
    (lambda text: "[" in text or "]" in text or "U" in text, _united),
    (lambda text: "mod" in text, lambda text: _MODULO.sub(r"\\pmod{\1}", text)),
    (lambda text: "real" in text or "olution" in text or "empty" in text, _worded),
    (lambda text: text[-1:] == "c" and "+" in text, lambda text: _CONSTANT.sub("+C", text)),
)
