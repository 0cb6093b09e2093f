"""The benchmarks by name: how the data is read and which figures are official."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rewardhub.bench.items import Item
from rewardhub.bench.loaders import best_of_n, judgebench, mm_rlhf, pairs, rm_bench, vl_rewardbench
from rewardhub.bench.policies import Policy
from rewardhub.errors import UnknownName


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``official`` figures come first in every report, ``alternatives`` after them.

    ``sizes`` are the numbers of items of the complete set by group, ``split_sizes`` by a part of the
    split's name; ``group_word`` is what the set
    calls its groups. With ``whole`` the figures need one score per response, so that an item always
    travels as one group.
    """

    name: str
    title: str
    load: Callable[[Path], Iterable[Item]]
    official: tuple[Policy, ...]
    alternatives: tuple[Policy, ...]
    source: str
    group_word: str = "category"
    levels: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    split_sizes: Mapping[str, int] = field(default_factory=dict)
    whole: bool = False


_JUDGEBENCH = Policy("accuracy", order="net")
_RM_BENCH = Policy("accuracy", unit="item", grouping="macro")
_PAIRS = Policy("accuracy")
_MM_RLHF = Policy("Acc")
_VL = Policy("overall", invalid="dropped")
_BEST = Policy("best of n", unit="best")

_ALL = (
    Benchmark(
        name="judgebench",
        title="JudgeBench",
        load=judgebench.load,
        official=(_JUDGEBENCH,),
        alternatives=(
            _JUDGEBENCH.alternative("mean of domains", grouping="macro"),
            _JUDGEBENCH.alternative("order as stored", order="stored"),
            _JUDGEBENCH.alternative("right in both orders", order="both"),
            _JUDGEBENCH.alternative("ties count half", tie=0.5),
            _JUDGEBENCH.alternative("invalid dropped", invalid="dropped"),
            _JUDGEBENCH.alternative("stated values count", invalid="stated"),
        ),
        source="Tan et al. 2024, arXiv 2410.12784; ScalerLab/JudgeBench utils/metrics.py",
        group_word="domain",
        split_sizes={"gpt": 350, "claude": 270},
    ),
    Benchmark(
        name="rm_bench",
        title="RM-Bench",
        load=rm_bench.load,
        official=(_RM_BENCH,),
        alternatives=(
            _RM_BENCH.alternative("mean over items", grouping="micro"),
            _RM_BENCH.alternative("ties count half", tie=0.5),
            _RM_BENCH.alternative("invalid dropped", invalid="dropped"),
            _RM_BENCH.alternative("stated values count", invalid="stated"),
        ),
        source="Liu et al. 2024, arXiv 2410.16184; THU-KEG/RM-Bench scripts/utils.py",
        group_word="domain",
        levels=rm_bench.LEVELS,
        styles=rm_bench.STYLES,
        sizes={"chat": 129, "code": 228, "math": 529, "safety": 441},
    ),
    Benchmark(
        name="mm_rlhf_rewardbench",
        title="MM-RLHF-RewardBench",
        load=mm_rlhf.load,
        official=(_MM_RLHF, _MM_RLHF.alternative("Acc+", unit="cluster", order="both")),
        alternatives=(
            _MM_RLHF.alternative("mean of categories", grouping="macro"),
            _MM_RLHF.alternative("ties count half", tie=0.5),
            _MM_RLHF.alternative("invalid dropped", invalid="dropped"),
            _MM_RLHF.alternative("stated values count", invalid="stated"),
        ),
        source="Zhang et al. 2025, arXiv 2502.10391; yfzhang114/r1_reward inference/MM-RLHF-Reward",
        sizes={"mcq": 42, "long": 37, "short": 34, "safety": 32, "video": 25},
    ),
    Benchmark(
        name="vl_rewardbench",
        title="VL-RewardBench",
        load=vl_rewardbench.load,
        official=(_VL, _VL.alternative("mean of groups", grouping="macro")),
        alternatives=(
            _VL.alternative("mean of lower-case groups", grouping="macro", by="lower-case groups"),
            _VL.alternative("ties count half", tie=0.5),
            _VL.alternative("invalid wrong", invalid="wrong"),
            _VL.alternative("stated values count", invalid="stated"),
        ),
        source="Li et al. 2024, arXiv 2411.17451; vl-rewardbench/VL_RewardBench cal.py",
        group_word="group",
        sizes={"general": 183, "hallucination": 749, "reasoning": 318},
    ),
    Benchmark(
        name="best_of_n",
        title="Best of n",
        load=best_of_n.load,
        official=(_BEST,),
        alternatives=(
            _BEST.alternative("equal scores share", unit="best_shared"),
            _BEST.alternative("pairs of right and wrong", unit="pair"),
            _BEST.alternative("invalid dropped", invalid="dropped"),
        ),
        source="share of problems whose highest-scored response is right, first of equals; "
        "QwenLM/Qwen2.5-Math evaluation/rm_maj_eval.py",
        group_word="level",
        whole=True,
    ),
    Benchmark(
        name="pairs",
        title="Preference pairs",
        load=pairs.load,
        official=(_PAIRS,),
        alternatives=(
            _PAIRS.alternative("mean of categories", grouping="macro"),
            _PAIRS.alternative("ties count half", tie=0.5),
            _PAIRS.alternative("labelled ties count", label_ties="equal"),
            _PAIRS.alternative("whole groups right", unit="cluster", order="both"),
            _PAIRS.alternative("invalid dropped", invalid="dropped"),
            _PAIRS.alternative("stated values count", invalid="stated"),
        ),
        source="share of pairs whose chosen response scores strictly higher",
    ),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}


def benchmark_named(name: str) -> Benchmark:
    """Raises ``UnknownName`` with the nearest known name."""
    if name not in BENCHMARKS:
        raise UnknownName("benchmark", name, BENCHMARKS, field="name")
    return BENCHMARKS[name]
