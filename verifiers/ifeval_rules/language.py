"""Which language a text is in."""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

_ALIASES = {"zh-cn": "zh", "zh-tw": "zh", "iw": "he", "nb": "no", "in": "id"}
_USUAL = frozenset(
    """af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr ne nl no pa pl
    pt ro ru sk sl so sq sv sw ta te th tl tr uk ur vi zh""".split()  # noqa: SIM905  # shorter to read
)
"""The languages that the public script's detector knows: close relatives of a few speakers, which short
texts are mistaken for, are left out unless asked for."""

_PART = 10_000


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def known_codes() -> frozenset[str]:
    """The codes that can be asked for."""
    return frozenset(_identifier().labels)


def canonical(code: str) -> str:
    """The code without region or outdated spelling."""
    return _ALIASES.get(code.lower(), code.lower())


def ranking(text: str) -> tuple[str, ...]:
    """The codes of all known languages, likeliest first; empty where the text holds no letter.

    Deterministic; of a text over 20,000 characters the beginning and the end are read.
    """
    sample = text if len(text) <= 2 * _PART else text[:_PART] + "\n" + text[-_PART:]
    if not any(char.isalpha() for char in sample):
        return ()
    return tuple(code for code, _ in _identifier().rank(sample))


def likeliest(ranked: tuple[str, ...], wanted: str) -> str:
    """The likeliest of the usual languages and the wanted one; empty where undetectable."""
    return next((code for code in ranked if code in _USUAL or code == wanted), "")
