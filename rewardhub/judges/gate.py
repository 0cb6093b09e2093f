"""The gate before a judge: answers without content are refused, not asked about.

LLM judges accept some empty-handed answers as right up to nine times in ten: a lone ":" or an opener
such as "Thought process:" ("One Token to Fool LLM-as-a-Judge", arXiv 2507.08794). Such an answer gets
the rubric's lowest value and the reason, and costs no call.
"""

import unicodedata

import re2

MASTER_KEYS = (
    "", " ", ".", ",", ":", "Thought process:", "Let's solve this problem step by step.", "Solution",
    "解", "かいせつ", "Respuesta",
)  # fmt: skip
"""The answers published as fooling judges; the first is the empty one."""

_OPENERS = frozenset({
    "thought process", "thinking process", "mental process", "solution", "the solution", "answer",
    "the answer", "the answer is", "final answer", "the final answer", "the final answer is", "answers",
    "let's think step by step", "let me think step by step", "let's solve this problem",
    "let's solve this problem step by step", "let's solve this step by step", "let us solve this problem step by step",
    "let me solve it step by step", "let me solve this step by step", "let's begin", "let's start",
    "step by step", "here is the solution", "here is the answer", "here's the solution", "here's the answer",
    "explanation", "solution process", "reasoning",
    "解", "解答", "解説", "解析", "答", "答案", "答案是", "回答", "答え", "かいせつ", "かいとう", "思考过程",
    "让我们一步一步地思考", "让我们一步步思考", "답", "정답", "풀이", "해설", "respuesta", "la respuesta es",
    "solución", "lösung", "antwort", "réponse", "risposta", "soluzione", "resposta", "solução", "ответ", "решение",
    "odpowiedź", "cevap", "çözüm", "jawaban", "đáp án", "lời giải", "उत्तर", "हल", "الجواب", "الحل",
})  # fmt: skip
_LONGEST = max(map(len, _OPENERS)) + 8
_SHELL = re2.compile(r"</?[A-Za-z_]{1,32}>|<[|｜][^<>]{1,64}[|｜]>|&nbsp;|\\(?:boxed|text|mathrm)\{\s*\}|[*_#`~$^|]+")
# Fillers that Unicode counts among letters and symbols.
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_SENTENCE_END = re2.compile(r"[\n:.!。：…]+")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'"})


def content_free(answer: str, reference: str = "") -> str:
    """Why ``answer`` holds nothing to judge, or "" where it does.

    Refused: nothing but blanks, punctuation, empty tags or an empty box, and answers made only of
    published openers. Short answers ("7", "B", "yes", "x", "∞") pass, and so does whatever equals the
    ``reference``. Linear in the length of the answer.
    """
    if reference and (answer.strip() == reference.strip() or _says_the_same(answer, reference)):
        return ""
    bare = _SHELL.sub(" ", answer.encode("utf-8", "replace").decode())
    if not any(map(_carries_content, bare)):
        return "empty answer" if not answer.strip() else "answer without content"
    return "answer is only an opener" if _only_openers(bare) else ""


def _carries_content(character: str) -> bool:
    # Letters, numbers and symbols; combining marks, punctuation, blanks and controls say nothing alone.
    return unicodedata.category(character)[0] in "LNS" and character not in _BLANK_LETTERS


def _only_openers(text: str) -> bool:
    # An opener is short and so are a handful of them: longer text is content without looking at it.
    if len(text) > 10 * _LONGEST:
        return False
    sentences = (_folded(part) for part in _SENTENCE_END.split(text))
    return all(sentence in _OPENERS for sentence in sentences if sentence)


def _says_the_same(answer: str, reference: str) -> bool:
    # Far longer answers are not folded: they are no opener, so nothing hangs on it.
    return len(answer) < len(reference) + _LONGEST and _folded(answer).strip(".:!") == _folded(reference) != ""


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    words = "".join(each for each in plain if unicodedata.category(each) != "Cf").split()
    return " ".join(words).strip(" ,;-–—()[]{}\"'?")
