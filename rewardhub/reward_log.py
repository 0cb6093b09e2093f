"""The append-only record of what was scored, as JSON lines: enough to replay and to re-score.

A line holds the run, step, policy version, recipe, fingerprint, group and scores. Prompts and responses
are recorded only where the operator says so; without them a line still tells what every trainer was
told, when, and by which version.
"""

import json
import logging
import os
import queue
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from rewardhub.errors import ConfigError
from rewardhub.json_values import weight
from rewardhub.types import Call, Column, Group, GroupScores, Media
from rewardhub.wire.lines import dumps, group_to_json, scores_to_json

QUEUE = 10_000
QUEUE_BYTES = 64 * 2**20
ROW_BYTES = 200
_log = logging.getLogger("rewardhub.reward_log")


class RewardLog(Collector):
    """Writes lines from a thread of its own, once started; ``dropped`` counts those that found the queue or the disk
    full.

    What waits is what will be written and no more, about ``QUEUE_BYTES`` in all.
    Half of a surrogate pair is written as its JSON escape.
    """

    def __init__(self, path: Path, *, texts: bool = False) -> None:
        self._texts = texts
        self._lines: queue.Queue[Any] = queue.Queue(QUEUE)
        self.dropped = 0
        self._taken = self._written = 0  # bytes, each counted by one thread only
        self._path = path
        self._thread = threading.Thread(target=self._write, daemon=True, name="reward-log")
        _check_place(path)

    def collect(self) -> list[CounterMetricFamily]:
        """What the metrics show of it."""
        return [CounterMetricFamily("rewardhub_reward_log_dropped", "Groups that the log lacks", self.dropped)]

    def start(self) -> None:
        """Opens the file, in folders that it makes; raises ``ConfigError`` where that cannot be done."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise _unusable(self._path, str(error.strerror)) from None
        self._thread.start()

    def record(self, group: Group, scores: GroupScores, call: Call, recipe: str, fingerprint: str, tenant: str) -> None:
        """Hands one group over to the writer; never waits."""
        head: dict[str, Any] = {"time": round(time.time(), 3), "tenant": tenant, "run": call.run, "step": call.step}
        head |= {"policy_version": call.policy_version, "recipe": recipe, "fingerprint": fingerprint}
        head["inputs"] = dict(call.inputs)
        told = replace(scores, total=_bare(scores.total), parts={k: _bare(part) for k, part in scores.parts.items()})
        shown = _without_bytes(group) if self._texts else None
        size = weight(head) + _scores_bytes(told) + (_group_bytes(shown) if shown else 0)
        if self._taken - self._written >= QUEUE_BYTES:
            self.dropped += 1
            return
        try:
            self._lines.put_nowait((size, head, told, shown))
            self._taken += size
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Writes what is left."""
        if not self._thread.is_alive():
            return
        self._lines.put(None)
        self._thread.join()
        try:
            self._file.close()
        except OSError as error:
            _log.error("the end of the reward log is lost: %s", error)

    def _write(self) -> None:
        while (entry := self._lines.get()) is not None:
            size, *rest = entry
            try:
                self._file.write(dumps(_line(*rest)) + "\n")
                if self._lines.empty():
                    self._file.flush()
            except Exception as error:  # the next line may find a disk with room again
                if not self.dropped:
                    _log.error("lines of the reward log are lost: %s", error)
                self.dropped += 1
            self._written += size


def _check_place(path: Path) -> None:
    """Raises ``ConfigError`` where no file can be there, with nothing made yet."""
    if path.is_dir():
        raise _unusable(path, "it is a folder")
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK) or not (there == path or there.is_dir()):
        raise _unusable(path, f"{there} cannot be written")


def _unusable(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"reward_log: {path} cannot be opened: {reason}", field="reward_log")


def _line(head: dict[str, Any], scores: GroupScores, group: Group | None) -> dict[str, Any]:
    line = head | scores_to_json(scores, details=False)
    return line | {"group": group_to_json(group)} if group else line


def _bare(column: Column) -> Column:
    return replace(column, details=None)


def _without_bytes(group: Group) -> Group:
    """The group with its media as hashes."""
    media = tuple(map(_hash, group.media))
    responses = tuple(
        replace(each, media=tuple(map(_hash, each.media))) if each.media else each for each in group.responses
    )
    return replace(group, media=media, responses=responses)


def _hash(media: Media) -> Media:
    return replace(media, data=None, frame_data=())


def _scores_bytes(scores: GroupScores) -> int:
    columns = [scores.total, *scores.parts.values()]
    steps = sum(sum(map(len, column.steps)) for column in columns if column.steps)
    return ROW_BYTES * len(scores) * len(columns) + 8 * steps


def _group_bytes(group: Group) -> int:
    shared = sum(map(weight, (group.prompt, group.reference, group.metadata, [each.frames for each in group.media])))
    rows = [len(each.text) + weight(each.messages) + 16 * len(each.steps) for each in group.responses]
    return shared + sum(rows) + ROW_BYTES * len(rows)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line cut short by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
