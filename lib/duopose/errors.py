"""The one kind of error that is the user's to mend."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in settings, data or weights; the message says what is wrong, where, and what to do.

    The tools print it as a sentence and end with exit code 2, without a traceback.
    """
