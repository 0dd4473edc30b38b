"""What is promised about security is one text: in the README, on its page, and in the package."""

from pathlib import Path

import pytest

import skyfan

ROOT = Path(__file__).parents[2]
START, END = "It never executes code", "from the folder that it runs in."


def promise(text):
    words = " ".join(text.replace("**", "").split())
    return words[words.index(START) : words.index(END) + len(END)]


@pytest.mark.parametrize("page", ["README.md", "docs/explanation/security.md"])
def test_the_promise_is_the_same_word_for_word(page):
    assert promise((ROOT / page).read_text()) == promise(skyfan.__doc__)
