"""The registry of scorers: built-ins, entry points, and files named by the operator.

``@verifier`` turns a plain function into a :class:`~rewardhub.scorer.Verifier`; nothing is registered
by importing a file, only by handing it to a :class:`Registry`. Built-ins use the same door.
"""

import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from rewardhub.errors import ConfigError, UnknownName
from rewardhub.flaws import is_interrupt
from rewardhub.scorer import Example as Example
from rewardhub.scorer import Lane, Scope, Scorer, ScorerInfo, Verifier
from rewardhub.types import MAX_CHARS

ENTRY_POINTS = "rewardhub.scorers"
NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
"""Names of scorers and recipes: every scorer is a recipe by its own name."""


def verifier(
    name: str,
    *,
    range: tuple[float, float] = (0.0, 1.0),  # noqa: A002  # the field's word
    scope: Scope = "response",
    lane: Lane = "inline",
    examples: Sequence[Example] = (),
    libraries: Sequence[str] = (),
    sources: Sequence[str] = (),
    fast: Callable[..., Any] | None = None,
    time_limit_s: float = 2.0,
    max_chars: int = MAX_CHARS,
    place: Callable[[], str] | None = None,
    signals: bool = True,
) -> Callable[[Callable[..., Any]], Verifier]:
    """Makes a verifier of a plain function ``(response, reference, *, parameters…) -> float or Score``.

    ``libraries`` are the distributions and ``sources`` the further modules whose change changes the
    verdicts. A verifier that may run longer than a millisecond belongs on the ``pool`` lane, where it
    is killed after ``time_limit_s``; ``fast`` is tried first, in process, and returns None where it
    cannot decide. ``place`` says on what else its verdicts depend where it runs. Without
    ``signals`` it is given no ``tokens`` and ``signals`` of responses, and its verdicts are found again where these
    differ. Raises ``ConfigError`` for ``max_chars`` over ``MAX_CHARS``.
    """
    if max_chars > MAX_CHARS:
        raise ConfigError(f"{name} reads {max_chars} characters, at most {MAX_CHARS}", field="max_chars")

    def make(function: Callable[..., Any]) -> Verifier:
        summary = (function.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        info = ScorerInfo(
            name=name, family="verifier", lane=lane, scope=scope, range=range, summary=" ".join(summary.split()),
            time_limit_s=time_limit_s, max_chars=max_chars, cost="dear" if lane == "sandbox" else "cheap",
            signals=signals,
        )  # fmt: skip
        return Verifier(info, function, fast, tuple(examples), tuple(libraries), tuple(sources), place)

    return make


class Registry:
    """Scorers by name; refuses duplicates and names the nearest known one."""

    def __init__(self) -> None:
        self._scorers: dict[str, Scorer] = {}

    def add(self, scorer: Scorer) -> None:
        name = scorer.info.name
        if not re.fullmatch(NAME, name):
            raise ConfigError(
                f"a scorer is named {name!r}, expected a letter, then up to 63 of A-Z a-z 0-9 _ . -", field=name
            )
        if self._scorers.setdefault(name, scorer) is not scorer:
            raise ConfigError(f"two scorers are named {name!r}", field=name)

    def remove(self, name: str) -> None:
        self._scorers.pop(name, None)

    def get(self, name: str) -> Scorer:
        """Raises ``UnknownName`` with the nearest known name."""
        try:
            return self._scorers[name]
        except KeyError:
            raise UnknownName("scorer", name, self._scorers, field="scorer") from None

    def __contains__(self, name: str) -> bool:
        return name in self._scorers

    def __iter__(self) -> Iterator[Scorer]:
        return iter(self._scorers.values())

    def names(self) -> list[str]:
        return sorted(self._scorers)

    def load_module(self, module: ModuleType) -> list[Verifier]:
        """Adds the verifiers that ``module`` itself defines."""
        found = [value for value in vars(module).values() if isinstance(value, Verifier)]
        own = [each for each in found if each.function.__module__ == module.__name__]
        for each in own:
            self.add(each)
        return own

    def load_builtins(self) -> None:
        package = importlib.import_module("rewardhub.verifiers")
        for entry in pkgutil.iter_modules(package.__path__):
            self.load_module(importlib.import_module(f"rewardhub.verifiers.{entry.name}"))

    def load_entry_points(self) -> None:
        """Adds the scorers of installed packages; an entry point names a module."""
        for point in metadata.entry_points(group=ENTRY_POINTS):
            self.load_module(point.load())

    def load_file(self, path: Path) -> list[Verifier]:
        """Adds the verifiers of a Python file. The file is trusted: it is the operator's."""
        module = import_file(path)
        found = self.load_module(module)
        if not found:
            raise ConfigError(f"{path} defines no verifier", field="plugins")
        for each in found:
            _ = each.source_digest  # now, because the file may be exchanged while this version is in use
        return found


class _Fresh(SourceFileLoader):
    """Compiles the file each time: its bytecode cache cannot tell two versions of one second and size apart."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("no bytecode cache")


def import_file(path: Path, field: str = "plugins") -> ModuleType:
    """The module of a Python file, under a name of its own; raises ``ConfigError``, about ``field``, where it fails."""
    name = f"rewardhub_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(
            f"{path} is {'no file' if path.exists() else 'not there'}, expected a Python file", field=field
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise ConfigError(f"{path}: {type(error).__name__}: {error}", field=field) from error
    return module


def builtin_registry() -> Registry:
    """The built-ins alone."""
    registry = Registry()
    registry.load_builtins()
    return registry


def default_registry(plugins: Sequence[Path] = ()) -> Registry:
    """Built-ins, entry points and the operator's files."""
    registry = builtin_registry()
    registry.load_entry_points()
    for path in plugins:
        registry.load_file(path)
    return registry
