"""Changes of a file's bytes: bits, numbers, words of the format, ranges cut, repeated and moved."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31,
           2**32 - 1)  # fmt: skip
ODD_NUMBERS = ("", "nan", "inf", "-1", "1e400", "1e-300", "9" * 30, "1e8", "-1e8", "a", "1,5",
               "0x1", "2147483648", "18446744073709551616")  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")  # in a text
MAX_RANGE = 64  # bytes that are cut, repeated or moved at once; rarely more
JSON_WORDS = (b"0", b"9", b"]", b"[", b"{", b"}", b",", b'"', b":", b"-", b"e9", b".", b"null",
              b"true", b"NaN", b"\\", b"\\ud800", b"\xff", b"\0", b"  ", b"1e400")  # fmt: skip
YAML_WORDS = (*JSON_WORDS, b"&a ", b"*a", b"\n", b"- ", b"!!int ", b"!!python/none ", b"<<: ",
              b"|", b"'", b"# ", b"---\n", b"? ", b"0x1", b"1_0", b".inf", b"~")  # fmt: skip
TABLE_WORDS = (b",", b"\n", b'"', b"nan", b"inf", b"-", b"1e400", b" ", b"\0", b"\xff", b"9" * 30)
XML_WORDS = (b"<", b">", b"/>", b'"', b"&", b"&amp;", b"&#0;", b"<!DOCTYPE a [", b"<!-- ", b"]]>",
             b"<image>", b"nan", b";", b",", b"\xff", b"1e400")  # fmt: skip


def changed_bytes(content: bytes, rng: Random, words: Sequence[bytes] = ()) -> bytes:
    """The bytes after one to four changes; words: pieces of the format to insert."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if words and rng.random() < 0.5:
            position = rng.randint(0, len(changed))
            changed[position : position + rng.choice((0, 0, 1, 3))] = rng.choice(words)
        elif changed:
            rng.choice(_CHANGES)(changed, rng)
    return bytes(changed)


def changed_numbers(content: bytes, rng: Random) -> bytes:
    """The text with one to three of its numbers replaced; its structure stays."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = list(NUMBER.finditer(content))
        if not found:
            break
        one = rng.choice(found)
        near = (
            str(rng.randint(-3, 200)),
            f"{rng.uniform(-1, 100):.3f}",
            "0",
            "1",
            f"{one[0].decode()}0",
        )
        number = rng.choice((*near, *near, *ODD_NUMBERS)).encode()
        content = content[: one.start()] + number + content[one.end() :]
    return content


def _flip_bit(content: bytearray, rng: Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _set_byte(content: bytearray, rng: Random) -> None:
    content[rng.randrange(len(content))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _set_number(content: bytearray, rng: Random) -> None:
    """A number of one to eight bytes, in either order."""
    length = rng.choice((1, 2, 4, 8))
    position = rng.randint(0, max(len(content) - length, 0))
    number = rng.choice(NUMBERS) % 256**length
    content[position : position + length] = number.to_bytes(length, rng.choice(("big", "little")))


def _cut(content: bytearray, rng: Random) -> None:
    start, end = _range(content, rng)
    del content[start:end]


def _cut_end(content: bytearray, rng: Random) -> None:
    del content[rng.randint(0, len(content)) :]


def _repeat(content: bytearray, rng: Random) -> None:
    start, end = _range(content, rng)
    content[start:start] = content[start:end] * rng.choice((1, 1, 2, 20))


def _move(content: bytearray, rng: Random) -> None:
    """A range over another one."""
    start, end = _range(content, rng)
    target = rng.randint(0, len(content))
    content[target : target + end - start] = content[start:end]


_CHANGES: Sequence[Callable[[bytearray, Random], None]] = (
    _flip_bit, _flip_bit, _set_byte, _set_byte, _set_number, _set_number, _cut, _cut_end, _repeat,
    _move,
)  # fmt: skip


def _range(content: bytearray, rng: Random) -> tuple[int, int]:
    start = rng.randint(0, len(content))
    length = rng.randint(1, MAX_RANGE if rng.random() < 0.9 else max(len(content), 1))
    return start, min(start + length, len(content))
