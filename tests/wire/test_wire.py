"""Groups, calls and scores survive JSON and protobuf; malformed input names its field."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.errors import InvalidInput
from rewardhub.types import Call, Column, Group, GroupScores, Media, Response, Score, Space, Status, Timings
from rewardhub.v1 import reward_service_pb2 as service
from rewardhub.v1 import types_pb2 as pb
from rewardhub.wire import lines, proto

IMAGE = Media.from_bytes(b"not really an image")
FULL = Group(
    id="g1",
    prompt=(
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "image", "media": 0}, {"type": "text", "text": "what?"}]},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "arguments": {"n": 2**60}}]},
    ),
    responses=(
        Response("plain"),
        Response(
            "full",
            messages=({"role": "assistant", "content": [{"type": "image", "media": 0}]},),
            tokens=7,
            signals={"entropy": 0.25},
            steps=((0, 2), (2, 4)),
            media=(IMAGE,),
        ),
        Response("x" * 300),
        Response("ünïcode ∑"),
        Response(""),
    ),
    reference={"answer": 2**70, "nested": [1, None, {"a": 1.5}]},
    media=(
        IMAGE,
        Media(sha256="a" * 64, width=3, height=4, space=Space.NORM_0_1000),
        Media(kind="video", frames=("b" * 64, "c" * 64), fps=2.0),
    ),
    problem_type="mcq",
    recipe="r",
    metadata={"difficulty": 3, "big": 2**63 + 1},
    expected=9,
)
SCORES = GroupScores(
    "g1",
    Column([1.0, None], [Status.OK, Status.TIMEOUT], "f1", details=[{"n": 2**60}, None], cached=[True, False]),
    {
        "a/b": Column([0.5, 0.25], [Status.OK, Status.NO_ANSWER], "f2", confidence=[0.5, None]),
        "p": Column([1.0, 2.0], [Status.OK] * 2, "f1", steps=[(0.5, None), ()]),
    },
    indices=[3, 5],
    complete=False,
    timings=Timings(1.0, 2.0, 3.5),
)


def test_group_survives_protobuf():
    """Every field comes back, integers above 2^53 too."""
    message = pb.Group.FromString(proto.group_to_proto(FULL, media_data=True).SerializeToString())
    back = proto.group_from_proto(message)
    assert back == FULL
    assert back.media[0].data == IMAGE.data


def test_group_survives_json():
    """Every field comes back from a line, the bytes of media too."""
    back = lines.group_from_json(lines.loads(lines.dumps(lines.group_to_json(FULL, media_data=True))))
    assert back == FULL
    assert back.responses[1].media[0].data == IMAGE.data


def test_scores_survive_both():
    """Values, presence, statuses, confidence, steps, details and the cached mark come back."""
    table = proto.Fingerprints()
    message = proto.scores_to_proto(SCORES, table, details=True)
    reply = service.ScoreResponse(groups=[message], fingerprints=table.table())
    back = service.ScoreResponse.FromString(reply.SerializeToString())
    assert proto.scores_from_proto(back.groups[0], list(back.fingerprints)) == SCORES
    again = lines.scores_from_json(lines.loads(lines.dumps(lines.scores_to_json(SCORES))))
    assert [score for score in again] == [score for score in SCORES]
    assert (again.indices, again.complete, again.timings) == (SCORES.indices, SCORES.complete, SCORES.timings)


def test_details_only_when_asked():
    """A reply without details carries none."""
    message = proto.scores_to_proto(SCORES, proto.Fingerprints(), details=False)
    assert not message.total.details


def test_a_plain_column_is_one_list_of_doubles():
    """What is ok everywhere needs no statuses on the wire."""
    scores = GroupScores("g", Column([1.0, 2.0], [Status.OK] * 2, "f"), indices=[0, 1])
    message = proto.scores_to_proto(scores, proto.Fingerprints(), details=True)
    assert list(message.total.values) == [1.0, 2.0]
    assert not message.total.statuses
    assert not message.total.present
    assert not message.indices


def test_a_failure_is_no_number_on_the_wire():
    """A client in a language where nobody looks at ``present`` reads no 0 for a score that failed."""
    scores = GroupScores(
        "g", Column([1.0, None], [Status.OK, Status.TIMEOUT]), {"a": Column.failed(2, Status.TIMEOUT, "late")}
    )
    message = proto.scores_to_proto(scores, proto.Fingerprints(), details=False)
    assert [math.isnan(value) for value in message.total.values] == [False, True]
    assert all(map(math.isnan, message.parts[0].columns.values))


def test_a_whole_number_with_a_point_is_an_integer():
    """JSON has one kind of number: what Lua, R, Gson or pandas write as 3.0 is 3; 3.5 and 1e300 are refused."""
    group = lines.group_from_json({"expected": 3.0, "responses": [{"text": "a", "tokens": 5.0, "steps": [[0.0, 1.0]]}]})
    assert (group.expected, group.responses[0].tokens, group.responses[0].steps) == (3, 5, ((0, 1),))
    assert lines.call_from_json({"step": -7.0, "deadline_ms": 1e3}).deadline_ms == 1000
    for step in (3.5, 1e300, math.inf):
        with pytest.raises(InvalidInput, match="integer"):
            lines.call_from_json({"step": step})


def test_every_status_has_its_number():
    """The enum of the wire and the vocabulary agree."""
    names = [name.removeprefix("STATUS_").lower() for name in pb.Status.keys()[1:]]
    assert names == [str(status) for status in Status]
    assert [Status.from_code(status.code) for status in Status] == list(Status)


def test_call_survives_both():
    """Every option of a call comes back."""
    call = Call("r", "run", -3, "v1", {"stage": 2.0}, 500, "refresh", "bulk", False, True, "name: x")
    assert proto.call_from_proto(proto.call_to_proto(call)) == call
    assert lines.call_from_json(lines.call_to_json(call)) == call
    assert lines.call_from_json({}) == Call()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ([], "group"),
        ({"respones": []}, "respones"),
        ({"id": 1.5}, "id"),
        ({"responses": "x"}, "responses"),
        ({"responses": [1]}, "responses[0]"),
        ({"responses": [{"text": None, "tokens": -1}]}, "responses[0].tokens"),
        ({"responses": [{"signals": {"a": "x"}}]}, "responses[0].signals.a"),
        ({"responses": [{"signals": {"a": math.inf}}]}, "responses[0].signals.a"),
        ({"responses": [{"steps": [[2, 1]]}]}, "responses[0].steps[0]"),
        ({"responses": ["\ud800"]}, "responses[0]"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": [{"role": "user", "content": [{"type": "image", "media": 0}]}]}, "prompt[0].content[0].media"),
        ({"prompt": [{"role": "user", "content": [{"type": "audio"}]}]}, "prompt[0].content[0].type"),
        ({"reference": 5}, "reference"),
        ({"metadata": []}, "metadata"),
        ({"media": [{}]}, "media[0]"),
        ({"media": [{"sha256": "xyz"}]}, "media[0].sha256"),
        ({"media": [{"data": "%%%"}]}, "media[0].data"),
        ({"media": [{"data": "aGk=", "sha256": "0" * 64}]}, "media[0].sha256"),
        ({"media": [{"path": "/etc/passwd"}]}, "media[0].path"),
        ({"media": [{"sha256": "0" * 64, "space": "pixels"}]}, "media[0].space"),
        ({"expected": True}, "expected"),
    ],
)
def test_malformed_groups_name_the_field(data, field):
    """The error says which field and what was expected."""
    with pytest.raises(InvalidInput) as caught:
        lines.group_from_json(data)
    assert caught.value.field in {field, "group" if field == "group" else field}


def test_the_nearest_field_is_named():
    """A misspelt field is told what it may have meant."""
    with pytest.raises(InvalidInput, match="did you mean 'responses'"):
        lines.group_from_json({"respones": []})


def test_a_bare_reference_is_an_answer():
    """A string stands for {"answer": …}, null for nothing."""
    assert lines.group_from_json({"reference": "4"}).reference == {"answer": "4"}
    assert lines.group_from_json({"reference": None}).reference == {}


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nul", '{"a": 1e}', b"\xff\xfe"])
def test_malformed_json_is_invalid_input(text):
    """Broken, bottomless and undecodable texts are told as such."""
    with pytest.raises(InvalidInput):
        lines.loads(text)


def test_dumps_never_writes_what_json_lacks():
    """Non-finite numbers become null."""
    assert json.loads(lines.dumps({"a": math.nan, "b": [math.inf, 1.0]})) == {"a": None, "b": [None, 1.0]}


@pytest.mark.parametrize("where", ["reference", "metadata"])
@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_bad_json_in_protobuf_names_the_field(where, data):
    """JSON bytes that are no object are the caller's fault."""
    with pytest.raises(InvalidInput, match=f"group.{where}"):
        proto.group_from_proto(pb.Group(**{where: data}))


VALUES = st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=8)


@given(VALUES, st.data())
def test_any_column_survives(values, data):
    """Property: presence and statuses are kept whatever the mix."""
    pick = st.sampled_from(list(Status))
    statuses = [Status.OK if value is not None else data.draw(pick) for value in values]
    column = Column(
        values, [s if v is not None or s is not Status.OK else Status.TIMEOUT for v, s in zip(values, statuses)]
    )
    scores = GroupScores("g", column, indices=list(range(len(values))))
    table = proto.Fingerprints()
    back = proto.scores_from_proto(proto.scores_to_proto(scores, table, details=True), table.table())
    assert back.total.values == column.values
    assert back.total.statuses == column.statuses


def test_score_is_a_number_only_with_a_value():
    """Turning a failed score into a float raises."""
    assert float(Score(0.5)) == 0.5
    with pytest.raises(ValueError, match="timeout"):
        float(Score(None, Status.TIMEOUT))


@pytest.mark.parametrize("field", ["reference", "metadata"])
def test_deep_objects_are_refused(field):
    """T64: what nests deeper than a hundred levels is refused before anything recurses into it."""
    deep = {}
    for _ in range(150):
        deep = {"a": [deep]}
    with pytest.raises(InvalidInput, match="nested deeper"):
        lines.group_from_json({field: deep})
    with pytest.raises(InvalidInput, match="nested deeper"):
        proto.group_from_proto(pb.Group(**{field: json.dumps(deep).encode()}))


def test_half_surrogates_in_details_are_valid_json():
    """A scorer that quotes a broken text does not break the reply."""
    details = {"found": "\ud800"}
    scores = GroupScores("g", Column([1.0], [Status.OK], "f", details=[details]), indices=[0])
    message = proto.scores_to_proto(scores, proto.Fingerprints(), details=True)
    assert json.loads(message.total.details[0]) == details


def test_inline_media_needs_no_hash():
    """The bytes are enough; a hash that is not theirs is refused."""
    media = proto.media_from_proto(pb.Media(data=b"abc"), "media[0]")
    assert media == Media.from_bytes(b"abc")
    with pytest.raises(InvalidInput, match="not the hash"):
        proto.media_from_proto(pb.Media(data=b"abc", sha256="0" * 64), "media[0]")
