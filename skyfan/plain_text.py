"""Text from others, such as names of files and tensors and what errors say, made fit for a terminal."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with all that is not printable as escapes (`\x1b`, `\u202e`, `\udc80`), but for what is in `keep`.

    Control characters can move a terminal's cursor, set its title or clear it; marks of direction can turn a name
    round; lone surrogates, which stand for bytes of file names that are no UTF-8, cannot be written at all.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException) -> str:
    """What an error says in its first line, fit for a terminal; what it is called where it says nothing."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])
