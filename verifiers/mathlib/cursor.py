"""A cursor over tokens, and what the rules of the grammar may ask of each other."""

from typing import Protocol

from rewardhub.verifiers.mathlib.limits import MAX_DEPTH, TooLarge, Unparseable
from rewardhub.verifiers.mathlib.tokens import Token
from rewardhub.verifiers.mathlib.tree import Node

END = Token("end", "")


class Cursor:
    """A place in a list of tokens; ``depth`` counts open groups so that no text can exhaust the stack."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else END

    def take(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def sees(self, *ops: str) -> bool:
        token = self.peek()
        return token.kind == "op" and token.text in ops

    def expect(self, kind: str, text: str) -> None:
        token = self.take()
        if token[:2] != (kind, text):
            raise Unparseable(f"expected {text!r}, found {token.text or 'the end'!r}")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge(f"more than {MAX_DEPTH} nested groups")


class Rules(Protocol):
    """The parser as the rules of ``structures`` see it."""

    tokens: list[Token]
    at: int
    depth: int

    def peek(self) -> Token: ...
    def take(self) -> Token: ...
    def sees(self, *ops: str) -> bool: ...
    def expect(self, kind: str, text: str) -> None: ...
    def deeper(self) -> None: ...
    def items(self) -> list[Node]: ...
    def relation(self) -> Node: ...
    def sum(self) -> Node: ...
    def product(self) -> Node: ...
    def signed(self) -> Node: ...
    def power(self) -> Node: ...
    def primary(self) -> Node: ...
    def script(self) -> Node: ...
    def units(self, value: Node) -> Node: ...
