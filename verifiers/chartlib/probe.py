"""Reads the current figure of matplotlib. Its source runs in the sandbox behind the program, as its probe.

So it uses the standard library and matplotlib only, and what it says is a claim of the program: the caller
checks the form of it.
"""

import base64
import io
import json
import math
from collections.abc import Iterable
from typing import Any, cast

MAX_SERIES, MAX_POINTS, MAX_TEXTS, MAX_TEXT = 200, 5_000, 500, 200
MAX_PIXELS = 4_000_000


def figure_as_json() -> bytes:
    """The layout, the series, the texts and the PNG of the current figure; all null where there is none."""
    import matplotlib.pyplot as plt

    if not plt.get_fignums():
        return b'{"axes": null}'
    figure = plt.gcf()
    image = _png(figure)  # drawing also lays out the ticks
    axes = [_axes(each) for each in figure.axes if each.get_label() != "<colorbar>"]
    title = figure._suptitle.get_text() if figure._suptitle else ""
    said = {"axes": axes, "title": title[:MAX_TEXT], "image": base64.b64encode(image).decode()}
    return json.dumps(said).encode()


def _png(figure: Any) -> bytes:
    width, height = figure.get_size_inches()
    dpi = min(100.0, math.sqrt(MAX_PIXELS / max(width * height, 1e-6)))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def _axes(axes: Any) -> dict[str, Any]:
    series = [each for each in _series(axes) if each["y"]][:MAX_SERIES]
    return {
        "projection": axes.name, "place": _place(axes), "series": series,
        "texts": [[role, text.strip()[:MAX_TEXT]] for role, text in _texts(axes) if text.strip()][:MAX_TEXTS],
    }  # fmt: skip


def _place(axes: Any) -> list[int] | None:
    """Rows and columns of the grid, first and last row, first and last column; null outside of a grid."""
    spec = axes.get_subplotspec()
    return None if spec is None else [*spec.get_gridspec().get_geometry(), *_ends(spec.rowspan), *_ends(spec.colspan)]


def _ends(span: range) -> tuple[int, int]:
    return span.start, span.stop - 1


def _series(axes: Any) -> Iterable[dict[str, Any]]:
    from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
    from matplotlib.container import BarContainer
    from matplotlib.image import AxesImage
    from matplotlib.patches import StepPatch, Wedge

    for container in axes.containers:
        if isinstance(container, BarContainer):
            flat = container.orientation == "horizontal"
            values = [bar.get_width() if flat else bar.get_height() for bar in container]
            yield _one("barh" if flat else "bar", None, values)
    for line in axes.lines:
        if line.get_transform().contains_branch(axes.transData):
            x, y = line.get_data(orig=False)
            yield _one("line", x, y)
    wedges = [each for each in axes.patches if isinstance(each, Wedge)]
    yield _one("pie", None, [(each.theta2 - each.theta1) / 360 for each in wedges])
    for patch in axes.patches:
        if isinstance(patch, StepPatch):
            yield _one("hist", None, cast("Any", patch).get_data().values)
    each: Any
    for each in axes.collections:
        if isinstance(each, PathCollection):
            points = list(cast("Any", each).get_offsets())
            yield _one("scatter", [point[0] for point in points], [point[1] for point in points])
        elif isinstance(each, QuadMesh):
            cells: Any = each.get_array()
            yield _one("heatmap", None, cells.ravel())
        elif isinstance(each, PolyCollection):
            yield _one("area", None, [y for path in each.get_paths() for _, y in cast("Any", path.vertices)])
    for shown in axes.images:
        if isinstance(shown, AxesImage):
            pixels: Any = shown.get_array()
            yield _one("heatmap", None, pixels.ravel())


def _one(kind: str, x: Any, y: Any) -> dict[str, Any]:
    values = [_number(each) for each in list(y)[:MAX_POINTS]]
    places = None if x is None else [_number(each) for each in list(x)[:MAX_POINTS]]
    return {"kind": kind, "x": places, "y": values}


def _number(value: Any) -> float | None:
    """A finite number; dates are days, what is masked or not a number is null."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _texts(axes: Any) -> Iterable[tuple[str, str]]:
    from matplotlib.category import StrCategoryFormatter
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    for where in ("left", "center", "right"):
        yield "title", axes.get_title(where)
    yield "xlabel", axes.get_xlabel()
    yield "ylabel", axes.get_ylabel()
    if legend := axes.get_legend():
        yield "legend", legend.get_title().get_text()
        for each in legend.get_texts():
            yield "legend", each.get_text()
    for name, axis in (("xtick", axes.xaxis), ("ytick", axes.yaxis)):
        if isinstance(axis.get_major_formatter(), StrCategoryFormatter | FixedFormatter | FuncFormatter):
            for tick in axis.get_majorticklabels():
                yield name, tick.get_text()
    for each in axes.texts:
        yield "note", each.get_text()
