"""The command line, called in this process."""

from typer.testing import CliRunner, Result

from skyfan.cli import app


def skyfan(*words: object) -> Result:
    """What a command printed and returned; its error is raised."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
