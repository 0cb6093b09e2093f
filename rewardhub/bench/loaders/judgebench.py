"""JudgeBench: pairs of responses of one model, one of them objectively right (ScalerLab/JudgeBench)."""

from collections.abc import Iterator
from pathlib import Path

from rewardhub.bench.items import Comparison, Item
from rewardhub.bench.rows import data_files, read_rows

_DOMAINS = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}


def load(data: Path) -> Iterator[Item]:
    """The pairs of each file, which is a split of its own; responses stay in the order A, B."""
    for path in data_files(data):
        for row in read_rows(path):
            better = ("A>B", "B>A").index(row.one_of("label", ("A>B", "B>A")))
            source = row.text("source")
            domain = next((name for prefix, name in _DOMAINS.items() if source.startswith(prefix)), "")
            if not domain:
                raise row.fail("source", f"is {source!r}, expected a prefix of {', '.join(_DOMAINS)}")
            yield Item(
                id=row.name("pair_id"),
                prompt=row.text("question"),
                responses=(row.text("response_A"), row.text("response_B")),
                comparisons=(Comparison(better, 1 - better),),
                split=path.stem,
                category=domain,
                labels={"source": source},
            )
