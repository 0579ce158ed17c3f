"""The one kind of error that is the user's to mend."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

PATH_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}


class UserError(ValueError):
    """A mistake in settings, data or weights; the message says what is wrong, where, and what to do.

    The tools print it as a sentence and end with exit code 2, without a traceback.
    """


def path_error_message(error: BaseException) -> str | None:
    """The sentence where the system refuses a path (a file where a folder should be, no right to write); None for other errors."""
    if isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
        reason = (error.strerror or "refused").lower()
        return f"'{error.filename}' cannot be opened or made ({reason}); choose another path, or change its permissions"
    return None


@contextmanager
def path_errors_as_user_errors() -> Iterator[None]:
    """Inside, a path that the system refuses is a UserError."""
    try:
        yield
    except OSError as error:
        if (sentence := path_error_message(error)) is None:
            raise
        raise UserError(sentence) from error
