"""A prompt that is too long for a served model, over both doors: an error, or a flagged truncation where its card allows."""

from dataclasses import replace

import httpx
import pytest

from rewardhub.client import Client
from rewardhub.models.card import TRUNCATED, load_card
from rewardhub.types import Call, Group, Response, Status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
RECIPE = "name: seen\nterms: {m: {scorer: left}}\nvalue: detail(m, 'truncated_prompt_tokens', 0)\n"
LONG = Group("g", "What colour is the circle? " * 60, tuple(map(Response, ("red", "blue" + "z" * 60, "z" * 300))))
SHORT = replace(LONG, id="s", prompt="What colour is the circle?", responses=LONG.responses[:2])


@pytest.fixture(scope="module")
def cards(tiny_card, tmp_path_factory):
    """The same model with each word on truncation."""
    folder, found = tmp_path_factory.mktemp("long"), {}
    for word in ("none", "left"):
        found[word] = folder / f"{word}.toml"
        path = load_card(tiny_card).path
        found[word].write_text(
            f'name = "{word}"\nkind = "scalar"\npath = "{path}"\nsystem = ""\nmax_tokens = 200\ntruncation = "{word}"\n'
        )
    return found


def test_the_flag_goes_through_both_doors(cards, serve):
    """Errors and flags are those of the model in process; neither card is served what was remembered of the other."""
    from rewardhub.models import load

    own = {word: load(load_card(path)).score([SHORT, LONG]) for word, path in cards.items()}
    with serve(*(word for path in cards.values() for word in ("--card", str(path)))) as hub:
        for door in (hub.url, f"grpc://{hub.grpc}"):
            client = Client(door, on_failure="none", timeout_s=60)
            for word in ("none", "left", "none", "left"):
                found = client.score([SHORT, LONG], Call(recipe=word))
                for scores, column in zip(found, own[word], strict=True):
                    assert scores.total.statuses == column.statuses
                    wanted = [0.0 if status is Status.OVER_LIMIT else value
                              for status, value in zip(column.statuses, column.values, strict=True)]  # fmt: skip
                    assert scores.values == pytest.approx(wanted, abs=1e-5)
                    told = [score.details.get(TRUNCATED) for score in scores]
                    assert told == [column.row(index).details.get(TRUNCATED) for index in range(len(column))]
            assert all(score.cached for score in found[0])
            _, scores = client.score([SHORT, LONG], Call(recipe_text=RECIPE))
            assert scores.values[:2] == [score.details[TRUNCATED] for score in list(found[1])[:2]]
        text = httpx.get(f"{hub.url}/metrics").text
    assert own["none"][1].statuses == [Status.INVALID_INPUT] * 3
    assert own["left"][1].statuses == [Status.OK, Status.OK, Status.OVER_LIMIT]
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("rewardhub_truncated"))
    assert float(lines['rewardhub_truncated_responses_total{model="left"}']) >= 2
    assert float(lines['rewardhub_truncated_responses_total{model="none"}']) == 0
