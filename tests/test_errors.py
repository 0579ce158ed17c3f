"""Numbers with their nouns in messages."""

import errno

import pytest

from duopose.errors import UserError, counted, path_error_message, path_errors_as_user_errors


def test_one_is_singular() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "person", "people") for n in (1, 5)] == ["1 person", "5 people"]


def test_errors_of_paths_and_disks_name_the_path() -> None:
    for number in (errno.ELOOP, errno.ENOENT, errno.ENOSPC, errno.EFBIG):
        with pytest.raises(UserError, match="some/file"), path_errors_as_user_errors():
            raise OSError(number, "reason", "some/file")
    assert len(path_error_message(OSError(errno.ENAMETOOLONG, "long", "x" * 9999)) or "") < 500
    assert path_error_message(OSError(errno.ECHILD, "no child", "file")) is None
