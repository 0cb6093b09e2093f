"""Scoring a group on its shared prompt on a GPU: a reward model of Qwen2.5-VL-7B's shape, random weights, bf16.

The peer is the stock model of transformers with its default attention over one padded batch, as in
``prefix.py``. FLOP/s count the products that our pass does, beside the rate of one large matrix product in
the same run. Agreement is with padded rows in fp32, beside that of stock rows in bf16. FlexAttention, compiled with
dynamic shapes, does one layer's attention beside ours.

    .venv/bin/python -P tests/bench/prefix_gpu.py [TURNS]

Needs a GPU of 64 GB, and 16 GB of TMPDIR for the checkpoint.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))
from hub_process import report
from prefix import CASES, Rows, eight_groups, group_rows, in_turns, ratio
from prefix_model import SEVEN_BILLION, build_classifier

from rewardhub.models import Card, load
from rewardhub.models.attention import Layer, Plan
from rewardhub.models.inputs import Encoded
from rewardhub.models.packing import Family
from rewardhub.models.scalar import ScalarModel

FIGURES = ("rows_1200_300_8", "rows_mixed", "rows_300_70_8")
GROUPS = 8
"""Groups of 8 whose scores are compared."""

MARGIN, ORDER = 0.05, 0.99
"""Pairs further apart than this share of the scores' deviation keep their order, but for the rest to the second."""


def flops(prompt: int, lengths: Sequence[int]) -> float:
    """What one pass over a group multiplies: each prompt token once, the last layer for the read tokens alone."""
    text, tokens, rows = SEVEN_BILLION.text, prompt + sum(lengths), len(lengths)
    wide, layers = text["hidden_size"], text["num_hidden_layers"]
    keys = 2 * wide * wide * text["num_key_value_heads"] // text["num_attention_heads"]
    rest = 2 * wide * wide + 3 * wide * text["intermediate_size"]
    pairs = prompt * prompt / 2 + sum(length * (prompt + length / 2) for length in lengths)
    decoder = 2 * tokens * (keys * layers + rest * (layers - 1)) + 2 * rows * rest + 4 * wide * pairs * (layers - 1)
    vision, patches = SEVEN_BILLION.vision, 768
    layer = 4 * vision["hidden_size"] ** 2 + 3 * vision["hidden_size"] * vision["intermediate_size"]
    return decoder + 2 * patches * layer * vision["depth"]


def seconds(run: Callable[[], object], turns: int = 20) -> float:
    """The median time of a run on the GPU."""
    found = []
    for _ in range(turns + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found[3:])


def matrix_rate() -> float:
    """FLOP/s of one product of 8192 x 8192 matrices in bf16."""
    one, two = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    return float(2 * 8192**3 / seconds(lambda: one @ two))


def against_rows(model: ScalarModel, rows: Rows, name: str, turns: int, peak: float) -> None:
    prompt, lengths = CASES[name]
    group = group_rows(model, prompt, lengths, seed=1)
    inputs, kin = rows.inputs(group, model.loaded.encoder.image_id), [range(len(group))]
    slow, fast = in_turns(lambda: rows.score(inputs), lambda: model.values(group, kin), turns)
    took = statistics.median(wall for wall, _ in fast)
    rate, tokens = flops(prompt, lengths) / took, prompt + sum(lengths)
    print(
        f"{name}: {1e3 * took:.1f} ms, {len(group) / took:.0f} responses/s, {tokens / took:,.0f} tokens/s, "
        f"{rate / 1e12:.0f} TFLOP/s, {100 * rate / peak:.0f} % of the matrix product's"
    )
    report(f"prefix_gpu.{name}", ratio(slow, fast, 0), "full rows")


def eight_at_once(model: ScalarModel, turns: int) -> None:
    at_once, one_by_one = eight_groups(model)
    slow, fast = in_turns(one_by_one, at_once, turns)
    report("prefix_gpu.eight_at_once", ratio(slow, fast, 0), "one at a time")


def agreement(name: str, found: Sequence[float], wanted: Sequence[float]) -> tuple[float, float]:
    """How far scores are from the wanted ones at most, in their deviation, and the share of pairs that keep their order.

    Pairs that are no further apart than ``MARGIN`` do not count.
    """
    deviation = statistics.stdev(wanted)
    apart = [abs(one - two) / deviation for one, two in zip(found, wanted, strict=True)]
    pairs = [pair for pair in combinations(range(len(wanted)), 2) if _margin(wanted, pair) > MARGIN * deviation]
    kept = sum((found[one] > found[two]) == (wanted[one] > wanted[two]) for one, two in pairs) / len(pairs)
    root = statistics.mean(each**2 for each in apart) ** 0.5
    print(
        f"{name}: {100 * root:.1f} % of the scores' deviation from fp32, {100 * max(apart):.1f} % at most, "
        f"{100 * kept:.2f} % of {len(pairs)} pairs in order"
    )
    return max(apart), kept


def _margin(scores: Sequence[float], pair: tuple[int, int]) -> float:
    return abs(scores[pair[0]] - scores[pair[1]])


def scores(rows: Rows, groups: Sequence[Sequence[Encoded]], image_id: int) -> list[float]:
    return [value for group in groups for value in rows.score(rows.inputs(group, image_id))]


def beside_flex(prompt: int, lengths: Sequence[int]) -> None:
    """One layer's attention, ours beside FlexAttention over the same packed sequence."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    text, tokens = SEVEN_BILLION.text, prompt + sum(lengths)
    heads, keys = text["num_attention_heads"], text["num_key_value_heads"]
    query, *pair = (torch.randn(tokens, each, 128, device="cuda", dtype=torch.bfloat16) for each in (heads, keys, keys))
    layer, plan = Layer(0, query, *pair, 128**-0.5), Plan([Family(prompt, tuple(lengths))], [None], ())
    segment = torch.arange(len(lengths) + 1, device="cuda").repeat_interleave(
        torch.tensor([prompt, *lengths], device="cuda")
    )

    def seen(_batch: object, _head: object, asks: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        return ((segment[asks] == segment[asked]) & (asks >= asked)) | ((segment[asked] == 0) & (asks >= prompt))

    mask = create_block_mask(seen, None, None, tokens, tokens, device="cuda")
    compiled = torch.compile(flex_attention, dynamic=True)
    wide = [each.transpose(0, 1).unsqueeze(0) for each in (query, *pair)]

    def flex() -> torch.Tensor:
        out: torch.Tensor = compiled(*wide, block_mask=mask, scale=128**-0.5, enable_gqa=True)
        return out

    apart = (flex()[0].transpose(0, 1).float() - layer.all_tokens(plan).float()).abs().max()
    ours, theirs = seconds(lambda: layer.all_tokens(plan)), seconds(flex)
    print(f"attention of a layer: {1e6 * ours:.0f} us, FlexAttention {1e6 * theirs:.0f} us, within {float(apart):.1g}")
    report("prefix_gpu.attention", theirs / ours, "FlexAttention, dynamic shapes")


def main(turns: int) -> None:
    if not torch.cuda.is_available():
        for name in FIGURES:
            print(f"prefix_gpu.{name} skipped: torch finds no GPU")
        return
    peak = matrix_rate()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {peak / 1e12:.0f} TFLOP/s in a matrix product")
    beside_flex(*CASES["rows_1200_300_8"])
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = build_classifier(Path(folder), shape=SEVEN_BILLION, device="cuda", dtype=torch.bfloat16)
        card = Card(name="bench", kind="scalar", path=checkpoint, system="", prefix_cache_mb=0, device="cuda",
                    dtype="bfloat16")  # fmt: skip
        model = load(card)
        assert isinstance(model, ScalarModel)
        print(f"path {model.runner.attention}, states within {model.runner.drift:.2g} of full rows' at load")
        assert model.runner.attention == "packed"
        stock = Rows(checkpoint, "cuda", torch.bfloat16)
        for name in FIGURES:
            against_rows(model, stock, name, turns, peak)
        eight_at_once(model, turns)
        groups = [group_rows(model, *CASES["rows_300_70_8"], seed) for seed in range(GROUPS)]
        image_id = model.loaded.encoder.image_id
        ours = [value for group in groups for value in model.values(group, [range(8)])]
        theirs = scores(stock, groups, image_id)
        del stock
        wanted = scores(Rows(checkpoint, "cuda"), groups, image_id)
    rounding, _ = agreement("stock rows in bf16", theirs, wanted)
    apart, kept = agreement("shared prefix in bf16", ours, wanted)
    if apart > 1.5 * rounding or kept < ORDER:
        sys.exit("scores in bf16 are further from fp32 than rounding explains")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 7)
