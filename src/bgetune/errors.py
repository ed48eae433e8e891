"""The exceptions whose message is shown without a traceback: the user's input is at fault, or bgetune is."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names the file, line, column or parameter and the remedy; `bgetune.pipeline` prints it alone
    and exits with status 2.
    """


class InternalError(RuntimeError):
    """bgetune made something that breaks its own rules: a bug, whatever the input was.

    `bgetune.pipeline` prints the message and exits with status 1.
    """

    def __init__(self, message: str):
        super().__init__(f"{message}. This is a bug of bgetune, not a fault of your data; please report it")
