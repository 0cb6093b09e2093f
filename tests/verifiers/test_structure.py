"""The structure family: sets, jigsaws, checklists, reflection, routes, screen actions, tool calls."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.registry import default_registry
from rewardhub.scorer import Verifier
from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.checklist import checklist
from rewardhub.verifiers.gui_action import gui_action
from rewardhub.verifiers.jigsaw import jigsaw
from rewardhub.verifiers.reflection import reflection
from rewardhub.verifiers.route_plan import route_detail, route_plan, stop_list
from rewardhub.verifiers.structured_set import structured_set
from rewardhub.verifiers.tool_trace import tool_trace


def score(verifier: Verifier, response: str | Response, reference: dict | None = None, **params) -> Score:
    """The score of one response."""
    response = Response(response) if isinstance(response, str) else response
    group = Group("g", responses=(response,), reference=reference or {})
    return verifier.bind(params).score(group, [0]).row(0)


# structured_set

TWO = {"items": [[0, "color", "red"], [3, "size", "small"]]}
FULL = [[0, "color", "red"], [3, "size", "small"]]


def test_star_r1_rows():
    """1 of 2 exact: 4; both and one wrong: 9; both and twenty wrong: -10; nothing: -2; one point for the format."""
    junk = [[index, "shape", "cube"] for index in range(10, 30)]
    stated = [FULL[:1], [*FULL, junk[0]], [*FULL, *junk], []]
    assert [score(structured_set, json.dumps(each), TWO).value for each in stated] == [4.0, 9.0, -10.0, -2.0]


def test_listing_everything_costs():
    """Naming every value of an attribute earns less than naming one; repeats earn nothing."""
    every = [[0, "color", color] for color in ("red", "green", "blue", "grey", "pink")]
    honest = score(structured_set, json.dumps(FULL), TWO)
    assert score(structured_set, json.dumps(every), TWO).value < score(structured_set, json.dumps(FULL[:1]), TWO).value
    assert score(structured_set, json.dumps(FULL * 10), TWO).value < honest.value
    lowest = score(structured_set, json.dumps([[9, "x", "y"]] * 5000), TWO)
    assert (lowest.status, lowest.value) == (Status.OK, -1002.0)


TRIPLE = st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.sampled_from("xy"))


@given(st.lists(TRIPLE, min_size=1, max_size=4), st.lists(TRIPLE, max_size=4))
def test_matching_is_the_best_one(gold, stated):
    """The credit equals the best one-to-one assignment."""
    from itertools import permutations

    def credit(one, other):
        return 5.0 if one == other else 1.5 if one[:2] == other[:2] else 0.5 if one[0] == other[0] else 0.0

    longer, shorter = sorted((gold, stated), key=len, reverse=True)
    best = max(sum(map(credit, each, shorter)) for each in permutations(longer, len(shorter)))
    found = score(structured_set, json.dumps(stated), {"items": [list(each) for each in gold]}, wrong=0.0, lacking=0.0)
    assert float(found) == pytest.approx(best)


@pytest.mark.parametrize(
    "items", [[], [[1, "a"]], [[1, "a", ""]], [[float("nan"), "a", "b"]], "x", [{"index": 1}], None]
)
def test_bad_expected_sets(items):
    """A reference that is no set of triples."""
    found = score(structured_set, json.dumps(FULL), {"items": items})
    assert (found.status, found.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.items")


# jigsaw

GRID = {"grid": [[1, 2], [3, 4]]}


def test_jigsaw_rows():
    """Pieces 1 2 4 3: half of the places, a quarter of the connections; 1 2 5 4: nothing."""
    assert score(jigsaw, "1 2 4 3", GRID).value == 0.5
    assert score(jigsaw, "1 2 4 3", GRID, measure="connections").value == 0.25
    for measure in ("patches", "connections", "exact"):
        for wrong in ("1 2 5 4", "1 2 3", "1 2 3 4 4", "1 1 1 1", "0 1 2 3", "1 2 3 -4", "1.5 2 3 4"):
            assert score(jigsaw, wrong, GRID, measure=measure).value == 0.0
        assert score(jigsaw, "1, 2, 3, 4", GRID, measure=measure).value == 1.0


@given(st.permutations(range(1, 7)))
def test_jigsaw_agrees_with_definition(order):
    """Patches and connections of a 2 by 3 grid, counted pair by pair."""
    grid = {"grid": [[1, 2, 3], [4, 5, 6]]}
    text = " ".join(map(str, order))
    patches = sum(one == two for one, two in zip(order, range(1, 7), strict=True)) / 6
    flat = lambda board: (  # noqa: E731
        {("h", board[3 * r + c], board[3 * r + c + 1]) for r in (0, 1) for c in (0, 1)}
        | {  # noqa: E731
            ("v", board[c], board[c + 3]) for c in range(3)
        }
    )
    shared = len(flat(list(order)) & flat(list(range(1, 7)))) / 7
    assert float(score(jigsaw, text, grid)) == pytest.approx(patches)
    assert float(score(jigsaw, text, grid, measure="connections")) == pytest.approx(shared)


@pytest.mark.parametrize("grid", [[[1]], [[1, 2], [3]], [[1, 2], [3, 3]], [[0, 1]], [["1", "2"]], [], "x", [[True, 2]]])
def test_bad_grids(grid):
    """A reference that is no cut picture."""
    found = score(jigsaw, "1 2", {"grid": grid})
    assert (found.status, found.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.grid")


# checklist

ASKED = {"items": [{"answer": "3"}, {"answer": "red"}, {"answer": "B", "options": ["dog", "cat"]}, {"answer": "yes"}]}


def test_pearl_rows():
    """3 of 4 right: 0.75; 1 of 4 answered and right: 0.25, not 1.0 (the public code divides by the answers given)."""
    assert score(checklist, "<a1>3</a1><a2>red</a2><a3>cat</a3><a4>no</a4>", ASKED).value == 0.75
    assert score(checklist, "<a1>3</a1>", ASKED).value == 0.25
    assert score(checklist, "<a1>3</a1><a4>yes</a4><a4>no</a4>", ASKED).value == 0.25
    assert score(checklist, "nothing", ASKED).status is Status.NO_ANSWER


def test_checklist_names_the_bad_question():
    """A bad question is the caller's, whatever was answered."""
    for items in ([{"answer": "3"}, {"answer": ""}], [{"answer": "3"}, {"answer": "Z", "options": ["a", "b"]}]):
        for text in ("<a1>3</a1>", "<a1>3</a1><a2>x</a2>"):
            found = score(checklist, text, {"items": items})
            assert (found.status, found.value) == (Status.REFERENCE_UNPARSEABLE, None)
            assert found.details["field"] == "reference.items[1]"


# reflection


def twice(first: str, second: str) -> str:
    return (
        f"<think>t</think><answer>{first}</answer><reflection>r</reflection><think>t</think><answer>{second}</answer>"
    )


def test_srpo_table():
    """.75, 0, -.25, 1.0 for right-right, wrong-wrong, right-wrong, wrong-right (the public code: .75, -.25, 0, 0)."""
    pairs = [("4", "4"), ("5", "6"), ("4", "5"), ("5", "4")]
    assert [score(reflection, twice(*each), {"answer": "4"}).value for each in pairs] == [0.75, 0.0, -0.25, 1.0]
    fast = reflection.bind({})
    groups = [Group("g", responses=(Response(twice(*each)),), reference={"answer": "4"}) for each in pairs]
    assert [fast.try_fast(group, [0]).values[0] for group in groups] == [0.75, 0.0, -0.25, 1.0]


def test_reflection_needs_two_answers():
    """One answer or three are wrong, none is no answer, an empty reference the caller's."""
    for text in ("<answer>4</answer>", "<answer>4</answer>" * 3, twice("4", "4") + "<answer>4</answer>"):
        assert score(reflection, text, {"answer": "4"}).value == 0.0
    assert score(reflection, "4", {"answer": "4"}).status is Status.NO_ANSWER
    assert score(reflection, "4", {"answer": ""}).status is Status.REFERENCE_UNPARSEABLE


# route_plan

MAP = {"1": ["A", "B", "C", "D"], "2": ["C", "E", "F"]}


def route(*sections: tuple[str, str, str]) -> str:
    parts = [f"Route Name: {line}\nDeparture Stop: {one}\nArrival Stop: {two}\n" for line, one, two in sections]
    return "--\n".join(parts)


def reward(text: str, count: int, difficulty: float, ends: str = "AF") -> float:
    """RewardMap's score: difficulty (and 0.5 for a question with transfers) times the total."""
    reference = {"lines": MAP, "from": ends[0], "to": ends[1], "sections": count}
    factor = difficulty + (0.5 if count >= 1 else 0.0)
    right, detail = (float(score(verifier, text, reference)) for verifier in (route_plan, route_detail))
    return factor * (10 * right + 0.5 * detail)


def test_reward_map_rows():
    """Every number of the catalogue's row."""
    good, broken = route(("1", "A", "C"), ("2", "C", "F")), route(("1", "A", "B"), ("2", "C", "F"))
    assert [reward(good, 1, each) for each in (0.5, 1.0, 1.5)] == [12.0, 18.0, 24.0]
    assert [reward(good, 2, each) for each in (0.5, 1.0, 1.5)] == [14.5, 21.75, 29.0]
    assert reward(broken, 2, 1.5) == 8.0
    direct = route(("1", "A", "D"))
    assert [reward(direct, 0, each, "AD") for each in (1.0, 1.5)] == [10.5, 15.75]
    assert score(stop_list, "(B,C)", {"stops": ["B", "C"]}).value == 1.0
    assert score(stop_list, "(B,B,X)", {"stops": ["B", "C"]}).value == -0.5


@pytest.mark.parametrize(
    "sections",
    [
        [("9", "A", "D")], [("2", "A", "D")], [("1", "A", "C")], [("1", "B", "D")], [("1", "A", "A")],
        [("1", "A", "C"), ("2", "C", "D")], [("1", "A", "C"), ("1", "B", "D")], [("1", "A", "D")] * 21,
    ],
)  # fmt: skip
def test_impossible_routes(sections):
    """Unknown lines, stops off the line, broken changes, wrong ends, too many sections: 0 with the reason."""
    found = score(route_plan, route(*sections), {"lines": MAP, "from": "A", "to": "D"})
    assert found.value == 0.0
    assert found.details["reason"]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"lines": {}}, "lines"), ({"lines": {"1": ["A"]}}, "lines"), ({"lines": {"1": ["A", 2]}}, "lines"), ({"from": ""}, "from"),
     ({"to": 3}, "to"), ({"sections": -1}, "sections"), ({"sections": 1.5}, "sections"), ({"lines": {"1": ["A", "B"], " 1": ["A", "B"]}}, "lines")],
)  # fmt: skip
def test_bad_maps(change, field):
    """References that are no transit map."""
    found = score(route_detail, route(("1", "A", "D")), {"lines": MAP, "from": "A", "to": "D", "sections": 1} | change)
    assert (found.status, found.details["field"]) == (Status.REFERENCE_UNPARSEABLE, f"reference.{field}")


def test_names_of_stops():
    """Case, blanks, brackets and the word for station do not count; other letters do."""
    lines = {"Line 1": ["People's Square Station", "人民广场站", "East (Gate)"]}
    reference = {"lines": lines, "from": "people's square", "to": "人民广场"}
    assert score(route_plan, route(("line 1", "PEOPLE'S  SQUARE", "人民广场")), reference).value == 1.0
    assert score(route_plan, route(("x", "y", "z")), reference | {"to": "\ud800"}).value == 0.0
    assert score(route_plan, route(("line 1", "Peoples Square", "人民广场")), reference).value == 0.0


# gui_action


def act(**action) -> str:
    return json.dumps(action)


def test_glm_rows():
    """Click 20 pixels off: 0.80; "abce" for "abcd": 0.65; half of a box: 0.5."""
    click, typed = {"action": act_of(action="click", point=[100, 100])}, {"action": act_of(action="type", text="abcd")}
    assert score(gui_action, act(action="click", point=[112, 116]), click).value == pytest.approx(0.80)
    assert score(gui_action, act(action="type", text="abce"), typed).value == pytest.approx(0.65)
    box = {"action": act_of(action="tap", box_2d=[0, 0, 10, 10])}
    assert score(gui_action, act(action="tap", box_2d=[0, 0, 10, 5]), box, style="androidworld").value == 0.5


def act_of(**action) -> dict:
    return action


@pytest.mark.parametrize(
    "text",
    ['{"action": "click"}', '{"action": "click", "point": [1]}', '{"action": "click", "point": "1,2"}', '{"point": [100, 100]}',
     '{"action": "click", "point": [NaN, 1]}', '{"action": ["click"], "point": [100, 100]}', "[1, 2]", "<answer></answer>",
     '{"action": "click", "point": [1e400, -1e400]}', '{"action": "click", "point": [100, 100]'],
)  # fmt: skip
def test_malformed_actions_are_wrong(text):
    """Never a failure of ours, always 0 with a reason."""
    found = score(gui_action, text, {"action": {"action": "click", "point": [100, 100]}})
    assert (found.status, found.value) == (Status.OK, 0.0)
    assert found.details["reason"]


@pytest.mark.parametrize(
    "action",
    [None, "click", {}, {"point": [1, 2]}, {"action": "click"}, {"action": "click", "point": [float("inf"), 1]},
     {"action": "scroll", "point": [1, 1], "direction": "up", "amount": 0}, {"action": "type", "text": 3},
     {"action": "scroll", "point": [1, 1], "amount": 1}, {"action": "hotkey", "keys": []}],
)  # fmt: skip
def test_bad_recorded_actions(action):
    """A recorded action that lacks what its kind needs is the caller's."""
    found = score(gui_action, act(action="click", point=[1, 2]), {"action": action})
    assert (found.status, found.value) == (Status.REFERENCE_UNPARSEABLE, None)
    assert found.details["field"] == "reference.action"


@given(st.text(max_size=30), st.text(max_size=30))
def test_typing_is_bounded_and_reflexive(one, other):
    """Similar texts are in [0, 1], equal ones 1."""
    gold = {"action": {"action": "type", "text": other}}
    for style in ("osworld", "webvoyager"):
        assert 0.0 <= float(score(gui_action, act(action="type", text=one), gold, style=style)) <= 1.0
        assert float(score(gui_action, act(action="type", text=other), gold, style=style)) == pytest.approx(1.0)


# tool_trace

CROP = '<tool_call>{"name": "crop", "arguments": {"start": 1, "end": 4}}</tool_call>'
DONE, ERROR = "<tool_response>done</tool_response>", '<tool_response>{"error": "no frame"}</tool_response>'


def test_chain_of_focus_row():
    """A right answer with a valid trace has format 1, with an unclosed tag 0."""
    assert score(tool_trace, f"{CROP}{DONE}<answer>4</answer>").value == 1.0
    assert score(tool_trace, f"{CROP.removesuffix('</tool_call>')}<answer>4</answer>").value == 0.0


def test_deepsport_table():
    """The catalogue's gate, with g from ``valid`` and the tool's use from ``used``."""

    def total(text: str, accuracy: float) -> float:
        gate, used = float(score(tool_trace, text)), float(score(tool_trace, text, measure="used"))
        tool = used * (0.5 * accuracy if accuracy >= 0.5 else 0.03)
        return gate * (accuracy + tool) - 0.05 * (1 - gate)

    used, unused, repeated = CROP + DONE, "no tools", (CROP + DONE) * 2
    found = [
        total(used, 1.0),
        total(unused, 1.0),
        total(used, 0.6),
        total(used, 0.4),
        total(used, 0.0),
        total(repeated, 1.0),
    ]
    assert found == pytest.approx([1.50, 1.00, 0.90, 0.43, 0.03, -0.05])


def test_pixel_reasoner_total():
    """One caller of eight, right, one call: 1.175; the last call failed: 0."""

    def total(text: str, correct: float, rate: float) -> float:
        calls = float(score(tool_trace, text, measure="calls"))
        value = correct * float(score(tool_trace, text, measure="last_ok"))
        return value + (max(0.3 - rate, 0) / 2.0 / rate * 0.25 - 0.05 * (calls - 1) if calls else 0.0)

    assert total(CROP + DONE, 1.0, 0.125) == pytest.approx(1.175)
    assert total(CROP + DONE + CROP + DONE + CROP + DONE, 1.0, 0.5) == pytest.approx(0.90)
    assert total(CROP + ERROR, 1.0, 0.5) == 0.0


def message(arguments: object, result: object = "done", **extra) -> Response:
    call = {"id": "1", "type": "function", "function": {"name": "crop", "arguments": arguments}}
    return Response(messages=(
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": result, **extra},
    ))  # fmt: skip


def test_calls_in_messages():
    """Calls of a trajectory, with arguments as text or object; failures by flag or content."""
    assert score(tool_trace, message('{"a": 1}'), measure="used").value == 1.0
    assert score(tool_trace, message({"a": 1}), measure="used").value == 1.0
    assert score(tool_trace, message("{a}")).value == 0.0
    assert score(tool_trace, message("{}", is_error=True), measure="used").value == 0.0
    assert score(tool_trace, message("{}", '{"error": "x"}'), measure="last_ok").value == 0.0
    for broken in ({"tool_calls": "x"}, {"tool_calls": [3]}, {"tool_calls": [{"function": 3}]}, {"tool_calls": None}):
        found = score(tool_trace, Response(messages=({"role": "assistant", **broken},)))
        assert found.status is Status.OK


def test_huge_responses_take_linear_time():
    """A million characters of calls, sections, tags or triples are answered within a second or two."""
    hostile = [
        (tool_trace, "<tool_call>" * 90_000, {}), (tool_trace, CROP * 12_000, {}), (jigsaw, "1 " * 500_000, GRID),
        (checklist, "<a1>" * 250_000, ASKED), (structured_set, "[1,2,3]," * 125_000, TWO),
        (route_plan, route(("1", "A", "D")) * 15_000, {"lines": MAP, "from": "A", "to": "D"}),
        (stop_list, "B," * 500_000, {"stops": ["B"]}), (reflection, "<answer>" * 125_000, {"answer": "4"}),
    ]  # fmt: skip
    for verifier, text, reference in hostile:
        began = time.thread_time()
        assert score(verifier, text, reference).status in (Status.OK, Status.NO_ANSWER)
        assert time.thread_time() - began < 2.0, verifier.info.name


def test_all_are_registered():
    """Each verifier is usable as a scorer by its own name."""
    names = {"structured_set", "jigsaw", "checklist", "reflection", "route_plan", "route_detail", "stop_list", "gui_action", "tool_trace",
             "grid_puzzle", "knights_knaves"}  # fmt: skip
    assert names <= set(default_registry().names())
