"""What the suffix finds when the program has run: names, builtins and modules that the program cannot change.

Loaded by the guard inside, as a module that the program cannot find.
"""

from __future__ import annotations

# The functions below keep these builtins, whatever the program does to the shared ones.
__builtins__ = dict(vars(__import__("builtins")))  # type: ignore[assignment]

import sys
from opcode import opmap
from types import CodeType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Lists = dict[str, tuple[list[Any], list[Any]]]
    Stock = tuple[dict[str, Any], dict[str, ModuleType], Lists]

TABLE = sys.modules
STORE, EXTENDED = opmap["STORE_NAME"], opmap["EXTENDED_ARG"]
COPIED = frozenset({
    "math", "cmath", "operator", "itertools", "functools", "statistics", "collections", "copy", "json", "re", "string",
    "heapq", "bisect", "decimal", "fractions",
})  # fmt: skip
"""Modules of functions and classes only, of which the suffix gets its own; in others it may set something for
the program to see, ``sys.stdout`` say."""
SUITE = "__suite__"
RELOADED = ("unittest", "doctest")
"""Modules that run tests, which the suffix loads afresh."""


def take_stock() -> Stock:
    """What there is before any program runs: the builtins, the modules, and where imports are looked for."""
    modules = {name: module for name, module in TABLE.items() if name != "__main__"}
    lists = {name: vars(sys)[name] for name in ("path", "meta_path", "path_hooks")}
    return dict(vars(TABLE["builtins"])), modules, {name: (each, list(each)) for name, each in lists.items()}


def names_in(code: CodeType) -> set[str]:
    """The global names and attributes that a unit mentions."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*(names_in(each) for each in inner))


def make_restored(
    names: dict[str, Any], stock: Stock, suffix: CodeType, folders: tuple[str, ...], tests: bool
) -> Callable[[], dict[str, Any]]:
    """Gives the suffix the program's names, and the builtins, the imports and the modules as they were.

    Names and builtins are the suffix's own, so that nothing it calls can put another check into their place.
    They are shared, being the program's module, where the suffix itself puts something into the place of a
    builtin, ``input`` say, for the program to find. ``folders`` are those of packages, which are loaded
    afresh. Of ``tests`` the names hold the module that they are in as ``SUITE``.
    """
    saved, modules, lists = stock
    mentioned = names_in(suffix)
    contents = {name: dict(vars(modules[name])) for name in mentioned & modules.keys()}
    tested = any(name.partition(".")[0] in RELOADED for name in mentioned)
    shared = not stores(suffix).isdisjoint(saved)

    def restored() -> dict[str, Any]:
        refuse_odd_keys(names, TABLE, *(vars(modules[name]) for name in {"builtins", "sys", *contents}))
        restore(saved, modules, lists, contents, folders)
        names["__builtins__"] = vars(modules["builtins"])
        space, main = uncovered(names, saved, mentioned), TABLE["__main__"]
        if not shared:
            main = own(space, saved, modules, contents)
            space = vars(main)
        elif len(space) == len(names):
            space = names
        if tests:
            space[SUITE] = main
        elif tested:
            TABLE["__main__"] = main  # where tests are looked for
        return space

    return restored


def stores(code: CodeType) -> set[str]:
    """The names that a unit itself sets, without its functions."""
    found, argument = set(), 0
    for operation, given in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument = argument << 8 | given
        if operation == STORE:
            found.add(code.co_names[argument])
        if operation != EXTENDED:
            argument = 0
    return found


def refuse_odd_keys(*spaces: dict[Any, Any]) -> None:
    """Raises ``TypeError`` where a name is no plain text: to look beside it would run the program's code."""
    for space in spaces:
        for key in space:
            if type(key) is not str:
                raise TypeError("a name that is no text")


def restore(
    saved: dict[str, Any], modules: dict[str, ModuleType], lists: Lists,
    contents: dict[str, dict[str, Any]], folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Undoes what the program did to what all code shares."""
    vars(modules["builtins"]).update(saved)
    for name, (each, before) in lists.items():
        each[:] = before
        vars(sys)[name] = each
    sys.path_importer_cache.clear()
    for name in [name for name, module in TABLE.items() if is_reloaded(name, module, folders)]:
        del TABLE[name]
    TABLE.update(modules)
    for name, kept in contents.items():
        vars(modules[name]).update(kept)


def is_reloaded(name: object, module: object, folders: tuple[str, ...]) -> bool:
    if isinstance(name, str) and name.partition(".")[0] in RELOADED:
        return True
    file = getattr(module, "__file__", None) if folders else None
    return isinstance(file, str) and file.startswith(folders)


def uncovered(names: dict[str, Any], saved: dict[str, Any], mentioned: set[str]) -> dict[str, Any]:
    """The names without those that cover a builtin (``abs``, say), unless such names are all of the program
    that the suffix mentions: then they are what it tests.
    """
    # A class mentions the ``__name__`` of its module.
    defined = {name for name in mentioned.intersection(names) if name[:2] != "__"}
    covered = defined.intersection(saved)
    hidden = covered if covered != defined else ()
    return {name: value for name, value in names.items() if name not in hidden}


def own(
    space: dict[str, Any], saved: dict[str, Any], modules: dict[str, ModuleType], contents: dict[str, dict[str, Any]]
) -> ModuleType:
    """The names as a module of the suffix's own, with builtins and copies of modules of its own."""
    main, builtins, load = ModuleType("__main__"), dict(saved), saved["__import__"]
    copies = {name: ModuleType(name) for name in COPIED & contents.keys()}
    for name, copy in copies.items():
        vars(copy).update(contents[name])

    def import_own(name: str, *rest: Any, **named: Any) -> Any:
        found = load(name, *rest, **named)
        return copies.get(name, found)

    originals = {id(modules[name]): copy for name, copy in copies.items()}
    vars(main).update({name: originals.get(id(value), value) for name, value in space.items()})
    vars(main)["__builtins__"] = builtins
    builtins["__import__"] = import_own
    return main
