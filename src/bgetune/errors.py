"""The one exception that is shown to a user without a traceback."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names the file, line, column or parameter and the remedy; `bgetune.pipeline` prints it alone
    and exits with status 2.
    """
