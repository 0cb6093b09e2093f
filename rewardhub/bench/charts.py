"""Inline SVG charts; colours are classes of the page, so that they follow light and dark."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import count
from typing import Any

_LEFT, _RIGHT, _PLOT, _ROW = 170, 160, 410, 22
_NAME = 18
_WIDTH = _LEFT + _PLOT + _RIGHT

EstimateJson = Mapping[str, Any]


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(estimate: EstimateJson) -> str:
    """``40.9 to 51.2``, in percent."""
    return "–" if estimate["low"] is None else f"{percent(estimate['low'])} to {percent(estimate['high'])}"


def dots(rows: Iterable[tuple[str, str, EstimateJson]], label: str) -> str:
    """One line per (name, class, estimate): a dot with its interval on an axis from 0 to 100."""
    drawn: list[str] = []
    y = 16
    for name, kind, estimate in rows:
        y += 10 if kind == "scorer" and drawn else 0
        drawn.append(_dot(name, kind, estimate, y))
        y += _ROW
    return _svg(y + 14, label, [*_axis(y - 8), *drawn])


def matrix(cells: Sequence[Sequence[float | None]], names: Sequence[str]) -> str:
    """Accuracy of right responses (rows) against wrong ones (columns), shaded from 0 to 100."""
    size, height = 96, 44
    parts = []
    for column, name in enumerate(names):
        x = _LEFT + column * size + size / 2
        parts.append(f'<text x="{x}" y="16" class="mid dim">{escape(name)}</text>')
    for row, values in enumerate(cells):
        y = 26 + row * height
        parts.append(f'<text x="{_LEFT - 12}" y="{y + height / 2 + 4}" class="end">{escape(names[row])}</text>')
        parts += [_cell(_LEFT + column * size, y, size, height, value) for column, value in enumerate(values)]
    return _svg(len(cells) * height + 30, "accuracy by style", parts)


def bars(histogram: Sequence[tuple[float, float, int]], label: str) -> str:
    """Counts of margins; bars below 0 are wrong pairs."""
    tall, base = 110, 122
    most = max(number for _, _, number in histogram)
    width = (_WIDTH - 40) / len(histogram)
    parts = [f'<line x1="20" x2="{_WIDTH - 20}" y1="{base}" y2="{base}" class="axis"/>']
    for place, (low, high, number) in zip(count(), histogram, strict=False):
        top = tall * number / most
        kind = "bad" if high <= 0 else "good" if low >= 0 else "even"
        x = 20 + place * width
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{base - top:.1f}" width="{width - 2:.1f}" height="{top:.1f}" class="{kind}">'
            f"<title>{low:.4g} to {high:.4g}: {number}</title></rect>"
        )
    ends = ((20, "start", histogram[0][0]), (_WIDTH / 2, "mid", 0.0), (_WIDTH - 20, "end", histogram[-1][1]))
    parts += [f'<text x="{x}" y="{base + 16}" class="{kind} dim">{edge:.4g}</text>' for x, kind, edge in ends]
    return _svg(base + 22, label, parts)


def _svg(height: float, label: str, parts: Iterable[str]) -> str:
    head = f'<div class="wide"><svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return "".join([head, *parts, "</svg></div>"])


def _x(share: float) -> float:
    return _LEFT + _PLOT * min(max(share, 0.0), 1.0)


def _axis(height: float) -> Iterator[str]:
    for tick in (0, 25, 50, 75, 100):
        x = _x(tick / 100)
        yield f'<line x1="{x}" x2="{x}" y1="2" y2="{height}" class="{"half" if tick == 50 else "grid"}"/>'
        yield f'<text x="{x}" y="{height + 16}" class="mid dim">{tick}</text>'


def _dot(name: str, kind: str, estimate: EstimateJson, y: int) -> str:
    short = name if len(name) <= _NAME else name[: _NAME - 1] + "…"
    title = f"<title>{escape(name)}</title>{escape(short)}"
    text = f'<text x="{_LEFT - 12}" y="{y + 4}" class="end {kind}">{title}</text>'
    if estimate["value"] is None:
        return text + f'<text x="{_LEFT + 8}" y="{y + 4}" class="dim">nothing counted</text>'
    low, high, x = (_x(estimate[key]) for key in ("low", "high", "value"))
    return (
        f'{text}<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" class="span {kind}"/>'
        f'<circle cx="{x:.1f}" cy="{y}" r="5" class="{kind}"/>'
        f'<text x="{_LEFT + _PLOT + 16}" y="{y + 4}" class="{kind}">{percent(estimate["value"])}'
        f'<tspan class="dim" dx="8">{interval(estimate)}</tspan></text>'
    )


def _cell(x: float, y: float, width: float, height: float, value: float | None) -> str:
    shade = 0.0 if value is None else value
    ink = "inked" if shade > 0.55 else ""
    return (
        f'<rect x="{x + 1}" y="{y + 1}" width="{width - 2}" height="{height - 2}" rx="3" class="heat" '
        f'fill-opacity="{0.06 + 0.9 * shade:.2f}"/>'
        f'<text x="{x + width / 2}" y="{y + height / 2 + 4}" class="mid {ink}">{percent(value)}</text>'
    )
