"""T45, R15: no mutated response or reference breaks a verifier. The same by hand: ``tests/verifiers/fuzz.py``."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("verifier_fuzz", Path(__file__).with_name("fuzz.py"))
assert _SPEC and _SPEC.loader
fuzz = importlib.util.module_from_spec(_SPEC)
sys.modules["verifier_fuzz"] = fuzz
_SPEC.loader.exec_module(fuzz)


def test_mutated_examples_have_a_verdict_or_a_status() -> None:
    """Six thousand executions over all verifiers that run no programs."""
    done, counts, findings = fuzz.fuzz(6_000, 11, [])
    assert findings == []
    assert done >= 6_000
    assert len(counts) > 70


def test_the_fuzzer_finds_a_planted_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier that breaks on one sign of the dictionary is found, with what broke it."""
    verifier = next(each for each in fuzz.verifiers(["tags"]))

    def broken(response, reference, **parameters):
        if "½" in response.text:
            raise UnicodeError(response.text)
        return verifier.function(response, reference, **parameters)

    planted = type(verifier)(verifier.info, broken, None, verifier.examples)
    planted.__dict__["parameters"] = verifier.parameters
    monkeypatch.setattr(fuzz, "verifiers", lambda names: [planted])
    _, _, findings = fuzz.fuzz(4_000, 3, [])
    assert len(findings) == 1
    assert "½" in findings[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_million_executions(seed: int) -> None:
    """A tenth of a million each."""
    done, _, findings = fuzz.fuzz(100_000, seed, [])
    assert findings == []
    assert done >= 100_000
