"""The append-only record of what was scored, as JSON lines: enough to replay and to re-score.

A line holds the run, step, policy version, recipe, fingerprint, group and scores. Prompts and responses
are recorded only where the operator says so; without them a line still tells what every trainer was
told, when, and by which version.
"""

import json
import logging
import queue
import threading
import time
from pathlib import Path
from typing import Any

from rewardhub.types import Call, Group, GroupScores
from rewardhub.wire.lines import dumps, group_to_json, scores_to_json

QUEUE = 10_000
_log = logging.getLogger("rewardhub.reward_log")


class RewardLog:
    """Writes lines from a thread of its own; ``dropped`` counts those that found the queue or the disk full.

    Half of a surrogate pair is written as its JSON escape.
    """

    def __init__(self, path: Path, *, texts: bool = False) -> None:
        self._texts = texts
        self._lines: queue.Queue[Any] = queue.Queue(QUEUE)
        self.dropped = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
        self._thread = threading.Thread(target=self._write, daemon=True, name="reward-log")
        self._thread.start()

    def record(self, group: Group, scores: GroupScores, call: Call, recipe: str, fingerprint: str, tenant: str) -> None:
        """Hands one group over to the writer; never waits."""
        entry = (time.time(), group, scores, call, recipe, fingerprint, tenant)
        try:
            self._lines.put_nowait(entry)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Writes what is left."""
        self._lines.put(None)
        self._thread.join()
        try:
            self._file.close()
        except OSError as error:
            _log.error("the end of the reward log is lost: %s", error)

    def _write(self) -> None:
        while (entry := self._lines.get()) is not None:
            try:
                self._file.write(dumps(self._line(*entry)) + "\n")
                if self._lines.empty():
                    self._file.flush()
            except Exception as error:  # the next line may find a disk with room again
                if not self.dropped:
                    _log.error("lines of the reward log are lost: %s", error)
                self.dropped += 1

    def _line(
        self, at: float, group: Group, scores: GroupScores, call: Call, recipe: str, fingerprint: str, tenant: str
    ) -> dict[str, Any]:
        line: dict[str, Any] = {"time": round(at, 3), "tenant": tenant, "run": call.run, "step": call.step}
        line |= {"policy_version": call.policy_version, "recipe": recipe, "fingerprint": fingerprint}
        line |= {"inputs": dict(call.inputs), **scores_to_json(scores, details=False)}
        if self._texts:
            line["group"] = group_to_json(group)
        return line


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line cut short by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
