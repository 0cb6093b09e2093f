"""Two cheap verifiers for the speed comparisons."""

from rewardhub.registry import verifier


@verifier("bench_short")
def bench_short(response, reference, *, limit: int = 40) -> float:
    """Whether the response is short."""
    return float(len(response.text) <= limit)


@verifier("bench_ends")
def bench_ends(response, reference) -> float:
    """Whether the response ends with the answer."""
    return float(response.text.endswith(reference["answer"]))
