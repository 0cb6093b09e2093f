"""The code in a response."""

_FENCES = ("```", "~~~")


def extract_code(text: str) -> str:
    """The content of the last fenced block (as in CommonMark, an open one ends with the text), else the
    whole text unchanged. Linear in the length of the text.
    """
    fence = ""
    lines: list[str] = []
    found: str | None = None
    for line in text.splitlines(keepends=True):
        mark = line.strip()
        if fence:
            if mark.startswith(fence) and not mark.strip(fence[0]):
                fence, found = "", "".join(lines)
            else:
                lines.append(line)
        elif mark.startswith(_FENCES) and mark[0] not in mark.lstrip(mark[0]):
            fence, lines = mark[: len(mark) - len(mark.lstrip(mark[0]))], []
    if fence:
        return "".join(lines)
    return text if found is None else found
