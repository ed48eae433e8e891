"""The exceptions whose message is shown without a traceback: the user's input is at fault, or bgetune is.

Also what an error of the file system means to a user.
"""

import errno

from bgetune.locale import N_, _


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names the file, line, column or parameter and the remedy; `bgetune.pipeline` prints it alone
    and exits with status 2. So does a notebook.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: where in bgetune it was raised helps nobody."""
        return [f"{type(self).__name__}: {self}"]


class Diverged(InputError):
    """A training whose loss, weights or vectors are not finite: the learning rate is too high for this model."""


class InternalError(RuntimeError):
    """bgetune made something that breaks its own rules: a bug, whatever the input was.

    `bgetune.pipeline` prints the message and exits with status 1.
    """

    def __init__(self, message: str):
        super().__init__(
            _("{message}. This is a bug of bgetune, not a fault of your data; please report it").format(message=message)
        )


_REMEDIES = {
    errno.ENOSPC: (
        1,
        N_("the disk is full; free some space and run the same command again, it continues where it was"),
    ),
    errno.EDQUOT: (1, N_("the disk quota is used up; free some space and run the same command again")),
    errno.EIO: (1, N_("the disk reports an error; check it, or take another one")),
    errno.EACCES: (2, N_("this user may not write there; change the permissions, or give the profile another name")),
    errno.EPERM: (2, N_("this user may not write there; change the permissions, or give the profile another name")),
    errno.EROFS: (2, N_("the file system is read-only; give the profile another name, or run in another copy")),
    errno.ENOTDIR: (2, N_("a file lies where a folder should be; move it away")),
    errno.EEXIST: (2, N_("a file lies where a folder should be; move it away")),
    errno.EISDIR: (2, N_("a folder lies where a file should be; move it away")),
    errno.ENAMETOOLONG: (2, N_("the name is too long; give the profile a shorter name")),
}


def explain(error: OSError) -> tuple[int, str] | None:
    """What a user can do about an error of the file system.

    Returns:
        The exit status (1 where the machine is at fault, 2 where the input is) and a sentence, or None for an error
        that only a fault of the program explains.
    """
    if error.errno not in _REMEDIES:
        return None
    status, remedy = _REMEDIES[error.errno]
    return status, _("{place}: {problem}").format(place=error.filename or reason(error), problem=_(remedy))


def joined(*parts: str) -> str:
    """The parts of a message that are not empty, one after the other."""
    return _("; ").join(filter(None, parts))


def reason(error: OSError) -> str:
    """What the system says of an error, in the language in use where it is one that people meet."""
    return _(error.strerror or type(error).__name__)


_SYSTEM = (
    *(N_("No such file or directory"), N_("Permission denied"), N_("Operation not permitted"), N_("Is a directory")),
    *(N_("Not a directory"), N_("File exists"), N_("File name too long"), N_("Read-only file system")),
    *(N_("Input/output error"), N_("No space left on device"), N_("No locks available")),
    *(N_("Too many levels of symbolic links"), N_("Operation not supported")),
)
"""What the system says, for the catalogues."""
