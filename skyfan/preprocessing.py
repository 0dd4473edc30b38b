"""What is done with an input's values before any model: the words of `Job.preprocess`.

    image=asinh:0.1                       asinh(x / 0.1), the stretch of Lupton, Gunn and Szalay (1999)
    image=log:1                           log10(x + 1)
    image=clip:0,5                        values below 0 become 0, above 5 become 5
    image=standardise:0.1,0.2;1,2         (x - mean) / standard deviation; here of two bands
    magnitude=deredden:ebv;4.239,3.303    x - R * E(B-V), with E(B-V) of each object in the column `ebv`
    image=deredden-flux:ebv;4.239,3.303   x * 10^(0.4 * R * E(B-V))

Bands are dimension 0 of a sample; one number is for all of them. Steps are taken in the order in which they are given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Action = Literal["asinh", "log", "clip", "standardise", "deredden", "deredden-flux"]
_FORM = (
    "write COLUMN=asinh:SCALE, log:OFFSET, clip:LOW,HIGH, standardise:MEANS;DEVIATIONS, deredden:COLUMN;R,… or "
    "deredden-flux:COLUMN;R,…, such as image=asinh:0.1"
)
# Of each action: how many lists of numbers it takes.
_LISTS: dict[Action, int] = {"asinh": 1, "log": 1, "clip": 1, "standardise": 2, "deredden": 1, "deredden-flux": 1}


@dataclass(frozen=True)
class Step:
    """One step on one of the model's inputs.

    `numbers` are lists with one number, or one a band: scales; offsets; means and standard deviations; extinction in
    magnitudes for each unit of E(B-V). Of `clip` they are the lowest and the highest value. `by` is the dataset's
    column of E(B-V), "" for other actions.
    """

    column: str
    action: Action
    numbers: tuple[tuple[float, ...], ...]
    by: str = ""

    @property
    def bands(self) -> int:
        """For how many bands it has numbers; 1: the same for all."""
        return 1 if self.action == "clip" else max(map(len, self.numbers))

    def __str__(self) -> str:
        """As a formula, for people."""
        lists = ["[" + ", ".join(f"{n:g}" for n in held) + "]" if len(held) > 1 else f"{held[0]:g}"
                 for held in self.numbers]  # fmt: skip
        match self.action:
            case "asinh":
                return f"asinh({self.column} / {lists[0]})"
            case "log":
                return f"log10({self.column} + {lists[0]})"
            case "clip":
                return f"{self.column} from {self.numbers[0][0]:g} to {self.numbers[0][1]:g}"
            case "standardise":
                return f"({self.column} - {lists[0]}) / {lists[1]}"
            case "deredden":
                return f"{self.column} - {lists[0]} * {self.by}"
            case _:
                return f"{self.column} * 10^(0.4 * {lists[0]} * {self.by})"


def parse_steps(given: Sequence[str]) -> tuple[Step, ...]:
    """The steps in their order.

    Raises:
        ValueError: a text is no step, or its numbers make no sense.
    """
    return tuple(_parse(text) for text in given)


def _parse(text: str) -> Step:
    column, _, rest = (part.strip() for part in text.partition("="))
    word, _, arguments = rest.partition(":")
    lists = [part.strip() for part in arguments.split(";")]
    action = next((one for one in get_args(Action) if one == word), None)
    by = lists.pop(0) if word.startswith("deredden") else ""
    if not column or action is None or len(lists) != _LISTS[action] or (action.startswith("deredden") and not by):
        raise ValueError(_FORM)
    numbers = tuple(tuple(_number(part) for part in held.split(",")) for held in lists)
    lengths = {len(held) for held in numbers} - {1}
    if len(lengths) > 1:
        raise ValueError(f"{word} has numbers for {' and for '.join(map(str, sorted(lengths)))} bands")
    if action == "clip" and (len(numbers[0]) != 2 or numbers[0][0] > numbers[0][1]):
        raise ValueError("clip takes the lowest and the highest value, such as clip:0,5")
    if action in ("asinh", "standardise") and min(numbers[-1]) <= 0:
        raise ValueError(f"what {word} divides by must be above 0")
    return Step(column, action, numbers, by)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(_FORM) from None
    if not math.isfinite(number):
        raise ValueError("numbers must be finite")
    return number
