"""Which columns of a dataset are meant, and how they lie in its files: options of a job, checked as text here.

Each names a column as the model calls it: `image=flux`, `image=5,32,32`.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, TypeAdapter

from skyfan.preprocessing import parse_steps

REDSHIFT = "redshift"
IN_TRAINING = "in_training_sample"
"""True where a simulated galaxy renders one that the packaged model was trained on."""
AXES = "CHW"
_SIZE = TypeAdapter(Annotated[int, Field(ge=0, lt=2**31)])
_NUMBER = TypeAdapter(FiniteFloat)


def parse_settings(given: tuple[str, ...]) -> dict[str, str]:
    """`("image=5,32,32",)` as name → text.

    Raises:
        ValueError: one of them is no `NAME=VALUE`, or a name stands twice.
    """
    found: dict[str, str] = {}
    for setting in given:
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not (name and equals and value) or name in found:
            raise ValueError("write COLUMN=VALUE, each column once")
        found[name] = value
    return found


def parse_axes(text: str) -> str:
    """`NHWC` as the row's axes, `HWC`; `ValueError` unless it is N and then C, H and W in any order."""
    if not text.upper().startswith("N") or sorted(text[1:].upper()) != sorted(AXES):
        raise ValueError("write the axes as they lie in the file, such as NHWC")
    return text[1:].upper()


def parse_sizes(text: str) -> tuple[int, ...]:
    """`5,32,32` as whole numbers."""
    return tuple(_SIZE.validate_python(part.strip()) for part in text.split(","))


def parse_shape(text: str) -> tuple[int, ...]:
    """As `parse_sizes`, none of them zero.

    Raises:
        ValueError: a size is no whole number above zero.
    """
    sizes = parse_sizes(text)
    if not all(sizes):
        raise ValueError("write sizes above zero, such as 5,32,32")
    return sizes


def parse_crop(text: str) -> tuple[int, int]:
    """`32` or `32,48` as height and width.

    Raises:
        ValueError: it is not one or two sizes.
    """
    sizes = parse_shape(text)
    if len(sizes) > 2:
        raise ValueError("write one size, or height,width")
    return sizes[0], sizes[-1]


def parse_scale(text: str) -> tuple[float, float]:
    """`0.0039` or `0.0039,-1` as scale and offset.

    Raises:
        ValueError: it is not one or two numbers, or the scale is zero.
    """
    numbers = [_NUMBER.validate_python(part.strip()) for part in text.split(",")]
    if len(numbers) > 2 or not numbers[0]:
        raise ValueError("write the scale, or scale,offset")
    return numbers[0], (numbers[1] if len(numbers) == 2 else 0.0)


def parse_target(text: str) -> str:
    """The column of known redshifts in `redshift=z_spec` or `z_spec`.

    Raises:
        ValueError: it names another column than the redshift, or none.
    """
    name, equals, column = (part.strip() for part in text.partition("="))
    if equals and (name != REDSHIFT or not column):
        raise ValueError(f"write a column, or {REDSHIFT}=COLUMN")
    return column if equals else name


def as_list(value: object) -> object:
    """One text as a list of one."""
    return [value] if isinstance(value, str) else value


def parts_of(value: object) -> object:
    """Text with commas, and lists of such text, as one list."""
    given = as_list(value)
    if not isinstance(given, (list, tuple)):
        return given
    parts = (part for item in given for part in (item.split(",") if isinstance(item, str) else [item]))
    return [part.strip() if isinstance(part, str) else part for part in parts]


def checked_by(parse: Callable[[tuple[str, ...]], object]) -> AfterValidator:
    """Texts that `parse` takes; they stay what they are."""

    def check(given: tuple[str, ...]) -> tuple[str, ...]:
        parse(given)
        return given

    return AfterValidator(check)


def _of(parse: Callable[[str], object]) -> AfterValidator:
    return checked_by(lambda given: [parse(text) for text in parse_settings(given).values()])


def _target(text: str | None) -> str | None:
    return None if text is None else parse_target(text)


_Texts = Annotated[tuple[str, ...], BeforeValidator(as_list)]


class ColumnOptions(BaseModel):
    """How a dataset's columns are named and laid out; part of a run's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, str_strip_whitespace=True)

    inputs: Annotated[tuple[str, ...], BeforeValidator(parts_of), _of(str)] = Field(
        (), description="columns of the dataset by the model's names, as image=flux,magnitude=mag"
    )
    target: Annotated[str | None, AfterValidator(_target)] = Field(
        None, description="the dataset's column of known redshifts, as z_spec; redshift by default"
    )
    shape: Annotated[_Texts, _of(parse_shape)] = Field(
        (), description="shape of one sample where the file has a flat list, as image=5,32,32"
    )
    axes: Annotated[_Texts, _of(parse_axes)] = Field(
        (), description="order of an image's axes in the file, as image=NHWC; read as NCHW"
    )
    bands: Annotated[_Texts, _of(parse_sizes)] = Field(
        (), description="bands to take, in this order, counted from 0, as image=0,1,2"
    )
    crop: Annotated[_Texts, _of(parse_crop)] = Field(
        (), description="height and width of the middle that is taken, as image=32 or image=32,32"
    )
    scale: Annotated[_Texts, _of(parse_scale)] = Field(
        (), description="what stored numbers are multiplied by, and what is added, as image=0.0039 or image=0.0039,-1"
    )
    preprocess: Annotated[_Texts, checked_by(parse_steps)] = Field(
        (),
        description="what is done with an input before any model, in order: COLUMN=asinh:SCALE, log:OFFSET, "
        "clip:LOW,HIGH, standardise:MEANS;DEVIATIONS, deredden:COLUMN;R,… or deredden-flux:COLUMN;R,…",
    )
