"""What is read and written beside the event loop, so that one caller's large request does not hold the others up.

A thread costs a request more than it spares the others where reading takes less than a few milliseconds. Reading takes
time by groups and responses, of JSON by its marks, and hardly by bytes.
"""

LARGE_BYTES, LARGE_ROWS, LARGE_MARKS = 2**21, 2_048, 8_192
READ_ROWS, GROUP_ROWS = 8_192, 16
"""Responses of a message, and as how many of them a group counts."""


def is_large_json(body: bytes) -> bool:
    return len(body) > LARGE_BYTES or body.count(b'"') > LARGE_MARKS


def is_large(size: int, rows: int, groups: int = 1) -> bool:
    """Whether a parsed message of so many bytes takes long to read."""
    return size > LARGE_BYTES or rows + GROUP_ROWS * groups > READ_ROWS
