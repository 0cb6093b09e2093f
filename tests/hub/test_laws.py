"""The laws, tested with a scorer whose value is a hash of its input."""

import asyncio
import random

import pytest

from rewardhub.registry import verifier
from rewardhub.types import Blame, Call, Group, Response, Status

from .conftest import oracle


def groups_of(count, size, seed=0):
    rng = random.Random(seed)
    return [
        Group(f"g{n}", f"prompt {n}", tuple(Response(f"{n}/{rng.random()}") for _ in range(size))) for n in range(count)
    ]


async def test_one_answer_per_response_by_group_and_index(hub, dear):
    """T01: 2,000 concurrent groups with delays; every score is the hash of its own input, in order."""
    dear.delay_s = 0.001
    groups = groups_of(2000, 3)
    answers = await asyncio.gather(*(hub.score([group], Call(recipe="dear")) for group in groups))
    for group, (scores,) in zip(groups, answers, strict=True):
        assert scores.id == group.id
        assert scores.values == [oracle(group.prompt, response.text) for response in group.responses]


async def test_failures_of_ours_are_never_numbers(hub):
    """T24: a crash and a non-finite result have a status and no value; their neighbours are scored."""
    group = Group("g", "", (Response("fine"), Response("boom"), Response("fine too")))
    (scores,) = await hub.score([group], Call(recipe="crash"))
    assert scores.values == [1.0, None, 1.0]
    assert scores[1].status is Status.INTERNAL_ERROR
    assert scores[1].blame is Blame.SYSTEM
    (scores,) = await hub.score([Group("g", "", (Response("inf"), Response("nan")))], Call(recipe="infinite"))
    assert scores.values == [None, None]
    assert {score.status for score in scores} == {Status.INTERNAL_ERROR}


async def test_the_reference_is_the_callers(hub):
    """A bad reference is the caller's fault and has no value; what the response lacks is its own."""
    call = Call(recipe="match")
    (bad,) = await hub.score([Group("g", "", (Response("4"),))], call)
    assert (bad[0].value, bad[0].status, bad[0].blame) == (None, Status.REFERENCE_UNPARSEABLE, Blame.CALLER)
    assert bad[0].details["field"] == "reference.answer"
    (empty,) = await hub.score([Group("g", "", (Response(""),), {"answer": "4"})], call)
    assert (empty[0].value, empty[0].status, empty[0].blame) == (0.0, Status.NO_ANSWER, Blame.RESPONSE)


async def test_one_bad_group_costs_no_neighbour(hub):
    """T02: an unknown recipe in the middle of a batch is its own problem, with the nearest name."""
    groups = groups_of(3, 2)
    groups[1] = Group("bad", "", (Response("x"),), recipe="orcle")
    scores = await hub.score(groups, Call(recipe="oracle"))
    assert [each.id for each in scores] == ["g0", "bad", "g2"]
    assert scores[1][0].status is Status.INVALID_INPUT
    assert "did you mean 'oracle'" in scores[1][0].details["reason"]
    assert all(score.status is Status.OK for each in (scores[0], scores[2]) for score in each)


async def test_unknown_media_is_named(hub):
    """A hash that was never uploaded is invalid input, and the neighbours are scored."""
    from rewardhub.types import Media

    unknown = Group("u", "", (Response("x"),), media=(Media(sha256="0" * 64),))
    scores = await hub.score([unknown, *groups_of(1, 1)], Call(recipe="oracle"))
    assert scores[0][0].status is Status.INVALID_INPUT
    assert "0" * 64 in scores[0][0].details["reason"]
    assert scores[1][0].status is Status.OK


@pytest.mark.parametrize(("size", "statuses"), [(0, []), (1, [Status.OK]), (512, [Status.OK] * 512)])
async def test_group_sizes(hub, size, statuses):
    """T12: empty groups, groups of one and large groups have a defined result."""
    (scores,) = await hub.score(groups_of(1, size), Call(recipe="oracle"))
    assert [score.status for score in scores] == statuses


async def test_too_many_responses_are_refused(hub):
    """T12: a group over the limit is invalid input."""
    group = Group("g", "", (Response("x"),) * 16_385)
    (scores,) = await hub.score([group], Call(recipe="oracle"))
    assert scores[0].status is Status.INVALID_INPUT


async def test_deadlines_hold(hub, dear):
    """T03: a deadline of 50 ms ends a scorer of 10 s, as a timeout without a value."""
    dear.delay_s = 10
    loop = asyncio.get_running_loop()
    started = loop.time()
    (scores,) = await hub.score(groups_of(1, 2), Call(recipe="dear", deadline_ms=50))
    assert loop.time() - started < 1.0
    assert scores.values == [None, None]
    assert {score.status for score in scores} == {Status.TIMEOUT}
    assert scores[0].retryable


async def test_routing_is_per_item(hub):
    """A batch may mix recipes, and a recipe may route by problem type."""
    text = """
name: routed
terms:
  t:
    route:
      cases: {hash: {scorer: oracle}, match: {scorer: match}}
value: t
"""
    groups = [
        Group("a", "p", (Response("x"),), problem_type="hash"),
        Group("b", "p", (Response("4"),), {"answer": "4"}, problem_type="match"),
        Group("c", "p", (Response("4"),), problem_type="hsah"),
        Group("d", "p", (Response("q"),), recipe="oracle"),
    ]
    scores = await hub.score(groups, Call(recipe_text=text))
    assert [each.values for each in scores] == [[oracle("p", "x")], [1.0], [None], [oracle("p", "q")]]
    assert scores[2][0].status is Status.INVALID_INPUT
    assert scores[2][0].details["reason"].endswith("no scorer for problem_type 'hsah'; did you mean 'hash'?")


async def test_a_failed_term_leaves_the_total_without_a_value(hub, dear):
    """The total names the gravest failure of the terms it reads; the other parts keep their scores."""
    dear.fail = {"b"}
    text = "name: two\nterms: {m: {scorer: match}, d: {scorer: dear}}\nvalue: m + d"
    group = Group("g", "p", (Response("a"), Response("b")), {"answer": "b"})
    (scores,) = await hub.score([group], Call(recipe_text=text))
    assert scores.values == [oracle("p", "a"), None]
    assert scores[1].status is Status.UNAVAILABLE
    assert scores[1].parts["m"].value == 1.0
    assert scores[1].parts["d"].value is None


async def test_conditions_skip_and_a_missing_condition_does_not_score(hub, dear):
    """`when` runs a term only where it is true; where it has no value neither has the term."""
    dear.fail = {"b"}
    text = (
        'name: gate\nterms: {d: {scorer: dear}, m: {scorer: match, when: "d > 0"}}\n'
        'value: "where(d > 2, 5, if_skipped(m, -1))"'
    )
    group = Group("g", "p", (Response("a"), Response("b")), {"answer": "a"})
    (scores,) = await hub.score([group], Call(recipe_text=text))
    assert scores.values == [1.0, None]
    assert scores[1].parts["m"].status is Status.UNAVAILABLE


async def test_a_non_finite_value_is_a_fault_of_the_recipe(hub):
    """Dividing by nothing is an internal error, not infinity."""
    text = "name: div\nterms: {m: {scorer: match}}\nvalue: 1 / (m - m)"
    (scores,) = await hub.score([Group("g", "", (Response("a"),), {"answer": "a"})], Call(recipe_text=text))
    assert scores.values == [None]
    assert scores[0].status is Status.INTERNAL_ERROR


async def test_a_signal_that_was_not_sent_is_named(hub):
    """A recipe that reads what the caller did not send is invalid input, in values and in conditions."""
    group = Group("g", "p", (Response("a"), Response("b", signals={"entropy": 1.0})), {"answer": "a"})
    text = """name: s\nterms: {m: {scorer: match}}\nvalue: 'm + signal("entropy") + input("stage")'"""
    (scores,) = await hub.score([group], Call(recipe_text=text, inputs={"stage": 2.0}))
    assert scores.values == [None, 3.0]
    assert scores[0].status is Status.INVALID_INPUT
    assert scores[0].details["field"] == "signals.entropy"
    text = """name: s\nterms: {m: {scorer: match, when: 'signal("entropy") > 0'}}\nvalue: m"""
    (scores,) = await hub.score([group], Call(recipe_text=text))
    assert [score.status for score in scores] == [Status.INVALID_INPUT, Status.OK]


async def test_the_deadline_is_of_the_whole_plan(hub, dear):
    """T03: three terms one after another share one deadline."""
    dear.delay_s = 0.15
    terms = 'a: {scorer: dear}, b: {scorer: dear, when: "a >= 0"}, c: {scorer: dear, when: "b >= 0"}'
    text = f"name: slow\nterms: {{{terms}}}\nvalue: a + b + c"
    started = asyncio.get_running_loop().time()
    (scores,) = await hub.score(groups_of(1, 1), Call(recipe_text=text, deadline_ms=200, cache="bypass"))
    assert asyncio.get_running_loop().time() - started < 0.35
    assert scores[0].status is Status.TIMEOUT
    assert scores[0].parts["a"].status is Status.OK


async def test_group_scope_and_group_operators(hub):
    """A group-scope scorer sees all responses; group operators give every member its value."""
    text = 'name: rel\nterms: {s: {scorer: spread}}\nvalue: "s - g_mean(s)"'
    group = Group("g", "", (Response("ab"), Response("abcd")))
    (scores,) = await hub.score([group], Call(recipe_text=text))
    assert scores.values == [-0.25, 0.25]
    (alone,) = await hub.score([Group("h", "", (Response("ab"),))], Call(recipe_text=text))
    assert alone[0].status is Status.INCOMPLETE_GROUP


@verifier("boxed", scope="group", lane="sandbox")
def boxed(responses, reference) -> list[float]:
    """How many responses there are, and which of them it is."""
    return [len(responses) + place / 10 for place in range(len(responses))]


async def test_group_scope_on_any_lane(hub, registry):
    """A group-scope scorer of the sandbox lane sees all responses too, and is remembered as a whole."""
    registry.add(boxed)
    group = Group("g", "", tuple(Response(text) for text in "abc"))
    for cached in (False, True):
        (scores,) = await hub.score([group], Call(recipe="boxed"))
        assert [(score.value, score.cached) for score in scores] == [(3.0, cached), (3.1, cached), (3.2, cached)]


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_condition_over_a_strict_group_knows_of_lost_members(hub, lost):
    """With ``group_strict`` a condition that looks at the group is unknown where one of its responses is lost."""
    terms = 'terms: {o: {scorer: oracle}, s: {scorer: spread, when: "g_mean(o) >= 0"}}'
    group = Group("g", "p", (Response("a"), Response("ab")), lost=lost)
    (scores,) = await hub.score([group], Call(recipe_text=f"name: s\ngroup_strict: true\n{terms}\nvalue: s"))
    assert scores.total.statuses == [Status.INCOMPLETE_GROUP if lost else Status.OK] * 2


async def test_of_reference_scores_the_reference(hub):
    """A term may score the reference's own response."""
    text = 'name: ref\nterms: {mine: {scorer: oracle}, ref: {scorer: oracle, of: reference}}\nvalue: "mine - ref"'
    group = Group("g", "p", (Response("a"), Response("b")), {"response": "b"})
    (scores,) = await hub.score([group], Call(recipe_text=text))
    assert scores.values == [oracle("p", "a") - oracle("p", "b"), 0.0]


async def test_nothing_is_shared_between_tenants(hub, dear):
    """The same input of two tenants is computed twice."""
    for tenant in ("one", "two", "one"):
        await hub.score([Group("g", "p", (Response("x"),))], Call(recipe="dear"), tenant=tenant)
    assert dear.computed == ["x", "x"]


async def test_draining_refuses_new_work(hub):
    """After drain the hub is not ready and says when to come back."""
    from rewardhub.errors import Unavailable

    await hub.drain(0.1)
    assert hub.ready() == ["draining"]
    with pytest.raises(Unavailable):
        await hub.score(groups_of(1, 1), Call(recipe="oracle"))


async def test_a_scorer_is_a_recipe_whatever_its_name(hub, dear):
    """Names of models hold hyphens and dots."""
    from rewardhub.scorer import ScorerInfo

    class Named(type(dear)):
        info = ScorerInfo(name="org.model-7b", family="reward_model", lane="model", cost="dear")

    hub.book.registry.add(Named())
    (scores,) = await hub.score(groups_of(1, 1), Call(recipe="org.model-7b"))
    assert scores[0].status is Status.OK


async def test_saying_nothing_never_pays(hub):
    """By its own name, a scorer with negative scores gives the lowest one to a response without an answer."""
    from rewardhub.errors import NoAnswer
    from rewardhub.registry import verifier

    @verifier("penalty", range=(-5.0, 0.0))
    def penalty(response, reference) -> float:
        """Nothing below -1 but silence."""
        if not response.text:
            raise NoAnswer("nothing")
        return -1.0

    hub.book.registry.add(penalty)
    (scores,) = await hub.score([Group("g", "", (Response("x"), Response("")))], Call(recipe="penalty"))
    assert scores.values == [-1.0, -5.0]
    assert scores[1].status is Status.NO_ANSWER


@pytest.mark.parametrize(
    ("term", "status"),
    [
        ("{scorer: oracle, input: first}", Status.UNAVAILABLE),
        ("{scorer: oracle, of: reference}", Status.REFERENCE_UNPARSEABLE),
    ],
)
async def test_nothing_is_no_input(hub, dear, term, status):
    """A term whose input failed, or that reads a reference which was not sent, has no value: "" was never said."""
    dear.fail.add("b")
    text = f"name: r\nterms: {{first: {{scorer: dear}}, second: {term}}}\nvalue: second"
    (scores,) = await hub.score([Group("g", "p", (Response("b"),))], Call(recipe_text=text))
    assert scores.total.values == [None]
    assert scores.total.statuses == [status]
