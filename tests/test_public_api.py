"""The names that users import: adding is free, removing or renaming is a decision."""

import importlib

import pytest

SURFACE = {
    "rewardhub.types": [
        "AsyncRewards", "Blame", "Call", "Column", "Group", "GroupScores", "Media", "Response", "Rewards", "Score",
        "Space", "Status", "Timings",
    ],
    "rewardhub.errors": [
        "ConfigError", "HubUnreachable", "InvalidInput", "NoAnswer", "OverLimit", "PinMismatch",
        "ReferenceUnparseable", "RewardHubError", "ScoringFailed", "Unavailable", "UnknownName",
    ],
    "rewardhub.registry": ["Example", "Registry", "default_registry", "verifier"],
    "rewardhub.scorer": ["Context", "Scorer", "ScorerInfo", "Verifier", "need"],
    "rewardhub.client": ["AsyncClient", "Client", "read_group_file"],
    "rewardhub.client.adapters.trl": ["reward"],
    "rewardhub.client.adapters.verl": ["compute_score"],
    "rewardhub.hub": ["Hub"],
    "rewardhub.local": ["LocalHub"],
    "rewardhub.assembly": ["make_hub"],
    "rewardhub.config": ["HubConfig", "load_config"],
}  # fmt: skip


@pytest.mark.parametrize(("module", "names"), SURFACE.items())
def test_names_are_there(module, names):
    """Each documented name is importable."""
    found = importlib.import_module(module)
    assert [name for name in names if not hasattr(found, name)] == []


def test_errors_have_their_codes():
    """Every error has a code, an HTTP and a gRPC code and a status, and survives pickling by the client's pools."""
    import pickle

    import grpc

    from rewardhub import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 15
    for kind in kinds:
        assert kind.code
        assert 400 <= kind.http < 600
        assert hasattr(grpc.StatusCode, kind.grpc)
        assert kind.code in errors.__doc__ or kind.__name__ in errors.__doc__
        error = errors._rebuild(kind, "why", "field", 1.5)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.message, again.field, again.retry_after_s) == (kind, "why", "field", 1.5)
