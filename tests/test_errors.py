"""Numbers with their nouns in messages."""

from duopose.errors import counted


def test_one_is_singular() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "person", "people") for n in (1, 5)] == ["1 person", "5 people"]
