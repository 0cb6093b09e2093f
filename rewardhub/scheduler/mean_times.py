"""How long a scorer takes for a response, by what it took lately."""

KEPT = 4_096
"""Scorers, with their parameters, of which the mean is known: callers choose parameters, and with them keys."""


class MeanTimes:
    """Exponential means of seconds; of what never ran, ``default`` seconds are expected."""

    def __init__(self, default: float) -> None:
        self._default = default
        self._known: dict[str, float] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> float:
        return self._known.get(key, self._default)

    def learn(self, key: str, seconds: float) -> None:
        known = self._known.get(key, seconds)
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[key] = 0.8 * known + 0.2 * seconds
