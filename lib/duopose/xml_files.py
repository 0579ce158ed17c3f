"""Reading xml files of others, element by element, with bounds.

The file is parsed in pieces, and only the children of the root are built, one at a time. A document
type is refused: its entities could refer to other files or grow without limit. The text is taken
for UTF-8 whatever the file says, so that no other encoding can hide one.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from duopose.errors import UserError
from duopose.regular_files import open_regular, reason_of

MAX_ELEMENTS = 200_000  # in one child of the root
MAX_DEPTH = 30  # of elements in each other
PIECE = 2**18  # bytes that are parsed at a time
MAX_TOKEN = 16 * 2**20  # bytes of one tag with its attributes, or of a text


def read_xml(path: str | Path, what: str, root: str, max_bytes: int) -> Iterator[ET.Element]:
    """The children of the root element, whose name must be `root`, in their order.

    UserError naming the file and `what` it was expected to be: where it is missing, no regular
    file, larger than `max_bytes`, no xml, has another root or a document type, or is beyond the
    limits of this module.
    """
    where = f"{what} '{path}'"
    builder = _Builder(root)
    try:
        with open_regular(path, max_bytes) as file:
            while piece := file.read(PIECE):
                yield from builder.feed(piece)
            yield from builder.feed(b"", is_last=True)
    except OSError as error:
        raise UserError(f"{where} cannot be read: {reason_of(error)}") from error
    except (expat.ExpatError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where} is not valid xml: {error}") from error
    except _NotRead as error:
        raise UserError(f"{where} is not read: {error}") from error


class _NotRead(Exception):
    """Why the file is refused."""


class _Builder:
    """Builds the children of the root."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.depth = 0
        self.num_elements = 0
        self.unfinished_bytes = 0
        self.children: list[ET.Element] = []
        self.tree = ET.TreeBuilder()

        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.StartDoctypeDeclHandler = self.refuse_document_type

    def feed(self, piece: bytes, is_last: bool = False) -> Iterator[ET.Element]:
        """Parse a piece of the file; the children that are complete then."""
        before = self.parser.CurrentByteIndex
        self.parser.Parse(piece, is_last)
        has_advanced = self.parser.CurrentByteIndex > before
        self.unfinished_bytes = 0 if has_advanced else self.unfinished_bytes + len(piece)
        if self.unfinished_bytes > MAX_TOKEN:
            raise _NotRead(f"a tag or text has more than {MAX_TOKEN / 2**20:.0f} MB")
        yield from self.children
        self.children.clear()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """A tag opens."""
        self.depth += 1
        if self.depth == 1:
            self.check_root(tag)
            return
        self.num_elements += 1
        if self.depth > MAX_DEPTH or self.num_elements > MAX_ELEMENTS:
            raise _NotRead(
                f"it has more than {MAX_DEPTH} elements in each other, or {MAX_ELEMENTS} in one "
                f"of <{self.root}>"
            )
        self.tree.start(tag, attributes)

    def check_root(self, tag: str) -> None:
        """The first tag."""
        if tag != self.root:
            raise _NotRead(f"it begins with <{tag[:40]}>, not with <{self.root}>")

    def end(self, tag: str) -> None:
        """A tag closes."""
        self.depth -= 1
        if self.depth:
            self.tree.end(tag)
        if self.depth == 1:
            self.children.append(self.tree.close())
            self.tree = ET.TreeBuilder()
            self.num_elements = 0

    def text(self, text: str) -> None:
        """Between tags; white space is left out."""
        if self.depth > 1 and not text.isspace():
            self.tree.data(text)

    def refuse_document_type(self, *_names: object) -> None:
        """It may define entities."""
        raise _NotRead("it defines a document type or entities")
