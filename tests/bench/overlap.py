"""How long a trainer waits for rewards: streamed during the rollout, beside serial scoring after it.

The rollout and the update are stand-ins that wait, as work on another device does; the scoring is real:
5 ms of a processor per response, by the same verifier in both. Lengths are chosen so that serial scoring
is 20 % of a step. Streamed, each group goes to a hub in a process of its own when its last response is
sampled; serial, the trainer scores all of them itself once the rollout is over. Values are checked.

    .venv/bin/python -P tests/bench/overlap.py
"""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent
sys.path += [str(ROOT), str(ROOT.parent / "chaos")]
from chaos_verifiers import oracle, pooled_nonce
from hub_process import cores, hardware, hub, report

from rewardhub.client import Client
from rewardhub.types import Call, Group, Response

GROUPS, SIZE, WORK_MS = 48, 8, 5
SERIAL_S = GROUPS * SIZE * WORK_MS / 1000
STEP_S = SERIAL_S / 0.2
ROLLOUT_S, UPDATE_S = 0.6 * STEP_S, 0.2 * STEP_S
RECIPE = f"name: work\nterms: {{t: {{scorer: pooled_nonce, with: {{busy_ms: {WORK_MS}}}}}}}\nvalue: t"


def rollout(step: int):
    """Groups as their last responses are sampled, spread over the rollout."""
    started = time.perf_counter()
    for n in range(GROUPS):
        due = started + ROLLOUT_S * (n + 1) / GROUPS
        time.sleep(max(0.0, due - time.perf_counter()))
        yield Group(f"{step}/{n}", f"prompt {step}/{n}", tuple(Response(f"{n}/{k}") for k in range(SIZE)))


def check(group: Group, values: list[float | None]) -> None:
    assert values == [oracle(group.prompt, response.text) for response in group.responses]


def streamed(client: Client, step: int) -> tuple[float, float]:
    """Seconds of one step, and of it those between the rollout's end and the last reward."""
    started, sent = time.perf_counter(), {}
    over = [0.0]

    def groups():
        for group in rollout(step):
            sent[group.id] = group
            yield group
        over[0] = time.perf_counter()

    for scores in client.stream(groups(), Call(recipe_text=RECIPE, details=False)):
        check(sent[scores.id], scores.values)
    exposed = time.perf_counter() - over[0]
    time.sleep(UPDATE_S)
    return time.perf_counter() - started, exposed


def serial(step: int) -> tuple[float, float]:
    """The same with the verifier called in a loop after the rollout."""
    bound = pooled_nonce.bind({"busy_ms": WORK_MS})
    started = time.perf_counter()
    groups = list(rollout(step))
    over = time.perf_counter()
    for group in groups:
        check(group, bound.score(group, range(SIZE)).values)
    exposed = time.perf_counter() - over
    time.sleep(UPDATE_S)
    return time.perf_counter() - started, exposed


def main() -> None:
    print(f"{hardware()}; {GROUPS} groups of {SIZE}, {WORK_MS} ms each, a step of about {STEP_S:.1f} s")
    server_core, client_core = cores()
    os.sched_setaffinity(0, {client_core})
    slow, slow_wait = serial(0)
    with hub("--plugin", str(ROOT.parent / "chaos" / "chaos_verifiers.py"), core=server_core) as address:
        with Client(f"grpc://{address['grpc']}") as client:
            client.score([next(rollout(1))], Call(recipe_text=RECIPE))  # starts the workers
            runs = sorted(streamed(client, step) for step in (2, 3, 4))
    fast, wait = runs[1]
    print(f"serial: {slow:.2f} s, {100 * slow_wait / slow:.1f} % waiting; streamed: {fast:.2f} s")
    report("overlap.step", slow / fast, "serial scoring after the rollout")
    report("overlap.exposed_wait_percent", 100 * wait / fast, "of the step (percent; below is better)")


if __name__ == "__main__":
    main()
