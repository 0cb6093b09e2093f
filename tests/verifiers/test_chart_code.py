"""``chart_code``: measures on real figures, programs that fail or lie, and the picture for a later term."""

import base64
import io

import pytest

pytest.importorskip("matplotlib")

from PIL import Image

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.registry import Registry, verifier
from rewardhub.types import Call, Group, Json, Response, Score, Status
from rewardhub.verifiers.chart_code import chart_code
from rewardhub.verifiers.chartlib.compare import Figure, Series, compare, read_figure

BAR = """
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.bar(["a", "b", "c"], [10, 20, 30], label="north")
ax.set_title("Sales")
ax.legend()
plt.show()
"""
GRID = """
import numpy as np, matplotlib.pyplot as plt
fig, axes = plt.subplots(2, 2)
axes[0, 0].plot([1, 2, 3], [4, 5, 6])
axes[0, 1].barh(["x", "y"], [3, 4])
axes[1, 0].pie([1, 1, 2], labels=["p", "q", "r"])
axes[1, 1].scatter(np.arange(5), np.arange(5) ** 2)
fig.suptitle("Four")
plt.savefig("out.png")
plt.close()
"""


def score(text: str, gold: str = BAR, limits: Json | None = None, **params: object) -> Score:
    """The score of one response."""
    reference = {"code": gold} | ({"limits": limits} if limits else {})
    group = Group("g", responses=(Response(text),), reference=reference)
    return chart_code.bind(params).score(group, [0]).row(0)


def test_the_published_examples() -> None:
    """Data [10.4, 21.2, 30] of [10, 20, 30] is 2/3; bar of bar is 1; "Sale" of "Sales" is 0.8; an exception is 0."""
    near = score(BAR.replace("10, 20, 30", "10.4, 21.2, 30"))
    assert near.details["data"] == pytest.approx(2 / 3)
    assert (near.details["type"], near.details["layout"], near.details["labels"]) == (1.0, 1.0, 1.0)
    assert near.value == pytest.approx((2 / 3 + 3) / 4)
    plain = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.title('Sales')"
    assert score(plain.replace("Sales", "Sale"), plain, of="labels").value == pytest.approx(0.8)
    failed = score(BAR + "raise ValueError")
    assert (failed.value, failed.status, failed.details["verdict"]) == (0.0, Status.OK, "runtime_error")
    assert score(BAR + "raise ValueError", of="exec").value == 0.0
    assert score(BAR, of="exec").value == 1.0


@pytest.mark.parametrize("gold", [BAR, GRID])
def test_same_figure_is_one(gold: str) -> None:
    """Whatever was saved, shown or closed."""
    assert score(f"```python\n{gold}```", gold).value == 1.0


def test_each_measure_sees_its_own_change() -> None:
    """Values, types, the grid and texts of a figure of four."""
    changes = {
        "data": ("[4, 5, 6]", "[4, 5, 7]", (14 - 1) / 14),  # 3 + 2 + 3 + 5 points, and one moved
        "type": (".barh(", ".bar(", 0.0),
        "layout": ("plt.subplots(2, 2)", "plt.subplots(2, 3)", 0.0),
        "labels": ('"Four"', '"Fort"', (5 + 0.5) / 6),
    }  # fmt: skip
    for measure, (old, new, value) in changes.items():
        assert old in GRID
        result = score(GRID.replace(old, new), GRID, of=measure)
        if measure == "data":
            value = 12 / 13
        assert result.value == pytest.approx(value), (measure, result.details)


FIGURES = {
    "heat map": "import numpy as np, matplotlib.pyplot as plt\nplt.imshow(np.eye(3))\nplt.colorbar()",
    "histogram": "import matplotlib.pyplot as plt\nplt.hist([1, 2, 2, 3, 3, 3])",
    "polar": "import matplotlib.pyplot as plt\nplt.subplot(projection='polar').plot([0, 1, 2], [1, 2, 3])",
    "three dimensions": "import matplotlib.pyplot as plt\nplt.figure().add_subplot(projection='3d').scatter([0, 1], [1, 2], [1, 2])",
    "dates": "import matplotlib.pyplot as plt, datetime as d\nplt.plot([d.date(2020, 1, 1), d.date(2020, 2, 1)], [1, 2])",
    "boxes and areas": "import matplotlib.pyplot as plt\nplt.boxplot([[1, 2, 3], [2, 3, 4]])\nplt.fill_between([0, 1], [0, 1], [1, 2])",
    "mathematics": "import matplotlib.pyplot as plt\nplt.title(r'$\\alpha^2$')\nplt.plot([1, float('nan'), 2])",
    "nothing in it": "import matplotlib.pyplot as plt\nplt.figure()",
    "masked": "import numpy as np, matplotlib.pyplot as plt\nplt.plot(np.ma.masked_equal([1, 2, 3], 2))",
    "a huge figure": "import matplotlib.pyplot as plt\nplt.figure(figsize=(10**6, 10**6)).text(0, 0, 'x')",
    "an empty scatter": "import matplotlib.pyplot as plt\nplt.scatter([], [])",
}


@pytest.mark.parametrize("name", FIGURES)
def test_kinds_of_charts(name: str) -> None:
    """Each is drawn, read, and equal to itself; none is equal to bars."""
    assert score(FIGURES[name], FIGURES[name]).value == 1.0
    assert score(FIGURES[name]).value < 1.0


FAILING = {
    "no figure": ("print(1)", "wrong_answer"),
    "a loop": ("while True: pass", "time_limit"),
    "no program": ("import matplotlib.pyplot as plt\nplt.plot(", "runtime_error"),
    "too many points": ("import numpy as np, matplotlib.pyplot as plt\nplt.plot(np.zeros(10**9))", "memory_limit"),
    "a forged description": (BAR + "import os\nos.write(3, b'{\"axes\": [')\nos._exit(0)", "protocol_error"),
    "garbage for a description": (BAR + "import os\nos.write(3, b'\\xff' * 10**6)", "protocol_error"),
    "a picture that is none": (BAR + "import os, json\nos.write(3, json.dumps({'axes': [], 'title': '', 'image': 'QUJD'}).encode())\nos._exit(0)", "protocol_error"),
    "leaving before the figure is read": (BAR + "import os\nos._exit(0)", "protocol_error"),
    "reading the host": ("open('/etc/passwd')", "runtime_error"),
    "the network": ("import socket\nsocket.create_connection(('127.0.0.1', 80))", "runtime_error"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_failing_program_is_a_verdict(name: str) -> None:
    """0 with the verdict, and no picture."""
    text, verdict = FAILING[name]
    result = score(text, limits={"time_s": 4})
    assert (result.value, result.status, result.details["verdict"]) == (0.0, Status.OK, verdict), result
    assert "image" not in result.details


@pytest.mark.parametrize("reference", [{}, {"code": ""}, {"code": 3}, {"code": "1 / 0"}, {"code": "x = 1"}])
def test_bad_reference_names_its_field(reference: Json) -> None:
    """A reference that draws no chart is the caller's fault."""
    group = Group("g", responses=(Response(BAR),), reference=reference)
    result = chart_code.bind({}).score(group, [0]).row(0)
    assert (result.value, result.status, result.details["field"]) == (
        None,
        Status.REFERENCE_UNPARSEABLE,
        "reference.code",
    )


def test_comparison_by_hand() -> None:
    """More or fewer points and texts than the reference cost; series are paired by what agrees."""
    one = Series("line", ((0.0, 1.0), (1.0, 2.0)))
    other = Series("line", ((0.0, 5.0), (1.0, 6.0)))
    gold = Figure((one, other), (("rectilinear", "line"),), ((1, 1, 0, 0, 0, 0),), (("title", "Sales"),))
    assert compare(Figure((other, one), gold.types, gold.places, gold.texts), gold, 0.05) == dict.fromkeys(
        ("data", "type", "layout", "text"), 1.0
    )
    assert compare(Figure((one,), gold.types, gold.places, ()), gold, 0.05)["data"] == 0.5
    assert compare(Figure((one, other, one), gold.types, gold.places, gold.texts), gold, 0.05)["data"] == pytest.approx(
        4 / 6
    )
    zero = Series("bar", ((None, 0.0),))
    near_zero = Series("bar", ((None, 1e-9),))
    empty = Figure((zero,), (), (), ())
    assert compare(Figure((near_zero,), (), (), ()), empty, 0.05)["data"] == 0.0
    twice = Figure((), (), (), (("title", "Sale"), ("title", "Sale")))
    assert compare(twice, Figure((), (), (), (("title", "Sales"),)), 0.05)["text"] == pytest.approx(0.4)
    for bad in (b"", b"[]", b'{"axes": 3}', b'{"axes": [{}]}', b'{"axes": [], "title": 3, "image": ""}', b"[" * 10**5):
        with pytest.raises(ValueError):
            read_figure(bad)


@verifier("picture")
def picture(response, reference) -> float:
    """The share of the picture that is not white, which proves that its bytes arrived."""
    (media,) = response.media
    with Image.open(io.BytesIO(media.data)) as image:
        grey = image.convert("L")
        assert "plt" in response.text
        return 1 - grey.histogram()[255] / (grey.width * grey.height)


async def test_the_picture_goes_on_to_a_later_term() -> None:
    """A term with ``input:`` gets the drawn picture and the code; where nothing was drawn it is skipped."""
    registry = Registry()
    registry.add(chart_code)
    registry.add(picture)
    hub = make_hub(HubConfig(workers=1), registry)
    await hub.start()
    recipe = """
name: charts
terms:
  drawn: {scorer: chart_code, with: {of: exec}}
  chart: {scorer: chart_code, when: drawn == 1}
  seen: {scorer: picture, input: chart, when: drawn == 1}
value: if_skipped(chart, 0) + if_skipped(seen, 0)
"""
    try:
        group = Group("g", responses=(Response(BAR), Response("1 / 0")), reference={"code": BAR})
        (scores,) = await hub.score([group], Call(recipe_text=recipe))
    finally:
        await hub.aclose()
    assert scores.parts["drawn"].values == [1.0, 0.0]
    assert scores.parts["seen"].statuses == [Status.OK, Status.SKIPPED]
    assert 0.05 < scores.parts["seen"].values[0] < 0.9
    assert scores.total.values == [pytest.approx(1 + scores.parts["seen"].values[0]), 0.0]
    drawn = base64.b64decode(scores.parts["chart"].row(0).details["image"])
    assert Image.open(io.BytesIO(drawn)).format == "PNG"
