"""The report as one HTML page without scripts or outside resources."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from rewardhub.bench.charts import bars, dots, interval, matrix, percent, signed

Values = Mapping[str, Any]


def page(report: Values) -> str:
    """The page of a report as JSON values. Every text of the data is escaped."""
    template = Template(files("rewardhub.bench").joinpath("page.html").read_text(encoding="utf-8"))
    title = escape(f"{report['title']}: {report['scorer']}")
    return template.substitute(title=title, body="\n".join(_body(report)))


def _body(report: Values) -> Iterator[str]:
    yield f"<header><h1>{escape(report['title'])}</h1>"
    asked = "responses scored once" if report["scope"] == "response" else "pairs asked in both orders"
    yield f"<p>scorer <code>{escape(report['scorer'])}</code>, {asked}</p></header>"
    if report["warnings"]:
        yield '<div class="warn">' + "".join(f"<p>{escape(each)}</p>" for each in report["warnings"]) + "</div>"
    for split in report["splits"]:
        yield from _split(report, split)
    yield from _provenance(report)


def _split(report: Values, split: Values) -> Iterator[str]:
    main = split["figures"][0]
    if split["name"]:
        yield f"<h2>{escape(split['name'])}</h2>"
    yield from _headline(split, main)
    yield dots(_beside(main), "official figure beside the controls")
    for key, title in (("levels", "By level"), ("categories", f"By {report['group_word']}")):
        if split[key]:
            yield f"<h3>{escape(title)}</h3>"
            yield dots(_slices(split[key]), title)
    if split["matrix"]:
        yield "<h3>By style</h3><p class='dim'>Right responses (rows) against wrong ones (columns), in percent.</p>"
        yield matrix(split["matrix"], report["styles"])
        yield table(["", "scorer", "95 %", "length"], map(_cell_row, split["cells"]), numbers=(1, 2, 3))
    yield from _policies(split)
    yield from _length(split["length"])
    if split["position"]:
        yield from _position(split["position"])
    yield from _margins(split)
    yield from _failures(split)


def _headline(split: Values, main: Values) -> Iterator[str]:
    estimate, above = main["scorer"], main["above_length"]
    yield f'<div class="head"><b>{percent(estimate["value"])} %</b>'
    yield f"<span>{escape(main['policy']['name'])}, 95 % interval {interval(estimate)}<br>"
    bad = f", {split['invalid_pairs']} without two ok scores" if split["invalid_pairs"] else ""
    yield f'<span class="dim">{split["items"]} items, {split["pairs"]} pairs{bad}</span></span>'
    if above["value"] is not None:
        points = [signed(100 * above[key], 1) for key in ("value", "low", "high")]
        yield f"<span>{points[0]} points against length<br>"
        yield f'<span class="dim">paired, 95 % {points[1]} to {points[2]}</span></span>'
    yield "</div>"


def _beside(figure: Values) -> Iterator[tuple[str, str, Values]]:
    yield "scorer", "scorer", figure["scorer"]
    for name, estimate in figure["controls"].items():
        yield name, "control", estimate


def _slices(slices: Sequence[Values]) -> Iterator[tuple[str, str, Values]]:
    for each in slices:
        yield each["name"] or "without", "scorer", each["scorer"]
        yield "length", "control", each["controls"]["length"]


def _cell_row(cell: Values) -> tuple[bool, list[str]]:
    estimates = cell["scorer"], cell["controls"]["length"]
    return False, [cell["name"], percent(estimates[0]["value"]), interval(estimates[0]), percent(estimates[1]["value"])]


def _policies(split: Values) -> Iterator[str]:
    yield "<h3>Official figures and alternatives</h3>"
    yield '<p class="dim">All are computed from the same scores; axes says what differs from the first row.</p>'
    controls = list(split["figures"][0]["controls"])
    heads = ["figure", "scorer", "95 %", *controls, "units", "axes"]
    main = _axes(split["figures"][0]["policy"])
    rows = ((figure["official"], _policy_row(figure, main)) for figure in split["figures"])
    yield table(heads, rows, numbers=range(1, 4 + len(controls)))


def _policy_row(figure: Values, main: Mapping[str, str]) -> list[str]:
    policy, estimate = figure["policy"], figure["scorer"]
    controls = [percent(each["value"]) for each in figure["controls"].values()]
    axes = _axes(policy)
    changed = [text for axis, text in axes.items() if axes == main or text != main.get(axis)]
    name = policy["name"] + (" (official)" if figure["official"] else "")
    return [name, percent(estimate["value"]), interval(estimate), *controls, str(estimate["count"]), ", ".join(changed)]


def _axes(policy: Values) -> dict[str, str]:
    by = "" if policy["by"] == "category" else f" by {policy['by']}"
    axes = {"unit": f"unit {policy['unit']}"}
    if not policy["unit"].startswith("best"):
        axes |= {"order": f"order {policy['order']}", "ties": f"ties {policy['tie']:g}"}
        axes |= {"labelled": f"labelled ties {policy['label_ties']}"}
    return axes | {"invalid": f"invalid {policy['invalid']}", "mean": policy["grouping"] + by}


def _length(study: Values) -> Iterator[str]:
    yield "<h3>Length</h3>"
    rho = study["correlation"]
    if rho is not None:
        yield "<p>Rank correlation of score difference and length difference: "
        yield f"{signed(rho, 2)} ({study['pairs']} pairs).</p>"
    names = (
        ("the scorer prefers the longer", "prefers_longer"),
        ("the label prefers the longer", "label_longer"),
        ("accuracy where the better one is longer", "where_longer"),
        ("accuracy where the better one is shorter", "where_shorter"),
    )
    yield _shares((name, study[key]) for name, key in names)


def _position(position: Values) -> Iterator[str]:
    yield "<h3>Position</h3>"
    yield _shares([("the first shown wins", position["first_wins"]), ("both orders agree", position["consistent"])])


def _shares(rows: Iterable[tuple[str, Values]]) -> str:
    made = ((False, [name, percent(each["value"]), interval(each), str(each["count"])]) for name, each in rows)
    return table(["share", "%", "95 %", "counted"], made, numbers=range(1, 4))


def _margins(split: Values) -> Iterator[str]:
    if split["histogram"]:
        yield "<h3>Margins</h3><p class='dim'>Score of the better response minus score of the worse.</p>"
        yield bars(split["histogram"], "histogram of margins")
    if split["mistakes"]:
        yield "<h3>Largest mistakes</h3>"
        rows = (
            (False, [each["id"], each["category"], f"{each['margin']:.4g}", str(each["better_length"]),
                     str(each["worse_length"])])
            for each in split["mistakes"]
        )  # fmt: skip
        yield table(["id", "category", "margin", "characters, better", "worse"], rows, numbers=range(2, 5))


def _failures(split: Values) -> Iterator[str]:
    yield "<h3>Statuses</h3>"
    counts = ((False, [name, str(number)]) for name, number in split["statuses"].items())
    yield table(["status", "scores"], counts, numbers=(1,))
    yield f"<p>{split['invalid_pairs']} pairs without two ok scores; {split['equal_pairs']} pairs with equal scores."
    if split["label_ties"]:
        yield f" {split['equal_label_ties']} of {split['label_ties']} labelled ties got equal scores."
    yield "</p>"
    if split["failures"]:
        rows = ((False, [each["id"], _counted(each["statuses"]), each["reason"]]) for each in split["failures"])
        yield table(["id", "statuses", "reason of the first"], rows)


def _counted(statuses: Sequence[str]) -> str:
    return ", ".join(f"{number} {status}" for status, number in Counter(statuses).items())


def _provenance(report: Values) -> Iterator[str]:
    yield "<h2>How this was made</h2><dl>"
    facts = {
        "metric": report["source"],
        "scorer": f"{report['scorer']} (scope {report['scope']})",
        "fingerprints": ", ".join(report["fingerprints"]) or "none given",
        **{f"data {name}": f"sha256 {digest}" for name, digest in report["data"].items()},
        "limit": str(report["limit"] or "none"),
        "seed": str(report["seed"]),
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        "made": report["created"],
    }
    yield "".join(f"<dt>{escape(name)}</dt><dd><code>{escape(fact)}</code></dd>" for name, fact in facts.items())
    yield "</dl>"


def table(heads: Sequence[str], rows: Iterable[tuple[bool, Sequence[str]]], numbers: Iterable[int] = ()) -> str:
    """Rows of (emphasised, cells); the columns ``numbers`` are set flush right. Cells are escaped."""
    right = set(numbers)
    kinds = [' class="num"' if column in right else "" for column in range(len(heads))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, heads, strict=True))
    lines = [f'<div class="wide{" many" if len(heads) > 6 else ""}"><table><thead><tr>{head}</tr></thead><tbody>']
    marks = {True: ' class="main"', False: ""}
    for emphasised, cells in rows:
        made = "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, cells, strict=True))
        lines.append(f"<tr{marks[emphasised]}>{made}</tr>")
    return "".join([*lines, "</tbody></table></div>"])
