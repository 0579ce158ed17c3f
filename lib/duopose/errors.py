"""User-facing messages: `UserError`, operating-system errors about paths, and counted nouns."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

# Errors of the operating system that another path or other permissions would avoid.
PATH_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOENT,
    errno.ENXIO,  # a FIFO that nobody reads, a socket, a device that is not there
    errno.ENODEV,
    errno.EINVAL,
    errno.ESPIPE,
}
# A disk that is full, that allows no larger file, or that does not work.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE}
MAX_PATH_LENGTH = 300  # characters of a path in a message


class UserError(ValueError):
    """A mistake in settings, data or weights; the message states what is wrong, where, what to do.

    The tools print the message without a traceback and end with exit code 2.
    """


class NotFiniteError(UserError):
    """Values that must be finite hold NaN or infinity."""


class BadSample(UserError):
    """One image, or its record in an annotation file, that cannot be used.

    With DATASET.ON_BAD_SAMPLE skip it is left out and counted; otherwise it ends the program as
    any UserError.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        """kind: the same words for all such images, by default the message up to a parenthesis."""
        super().__init__(message)
        self.kind = kind or message.partition(" (")[0]


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun: "1 image", "2 images", "3 people"."""
    word = noun if number == 1 else plural or f"{noun}s"
    return f"{number} {word}"


def path_error_message(error: BaseException) -> str | None:
    """The message for an unusable path (a file instead of a folder, no permission), else None.

    Also for a disk on which nothing can be written.
    """
    if not isinstance(error, OSError):
        return None
    reason = (error.strerror or "not permitted").lower()
    path = f"'{_shortened(error.filename)}'" if error.filename else "a file"
    if error.errno in DISK_ERRORS:
        return f"{path} could not be read or written completely ({reason}); look at the disk"
    if error.errno not in PATH_ERRORS or not error.filename:
        return None
    return (
        f"{path} cannot be opened or created ({reason}); "
        "choose another path, or change its permissions"
    )


def _shortened(path: object) -> str:
    text = str(path)
    return text if len(text) <= MAX_PATH_LENGTH else f"{text[:MAX_PATH_LENGTH]}..."


@contextmanager
def path_errors_as_user_errors() -> Iterator[None]:
    """Inside the context, an operating-system error about a path is raised as a UserError."""
    try:
        yield
    except OSError as error:
        message = path_error_message(error)
        if message is None:
            raise
        raise UserError(message) from error
