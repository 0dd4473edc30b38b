"""Why a pickle is not read; `load_tree` puts the file's name to it and makes it an error of Skyfan."""


class Malformed(ValueError):
    """The pickle is not one that torch writes; the message is the reason only."""


class Unsupported(Malformed):
    """The pickle is sound, but holds a kind of tensor that Skyfan does not read; the message says what to do."""


class RefusedCall(Malformed):
    """The pickle would call a function; the message is its name."""
