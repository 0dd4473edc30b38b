"""What to run: one `Job`, wherever it then runs.

Its JSON is the input of a Step Functions execution and what `plan.json` remembers; the command line, notebooks and the
reference system's payload (`skyfan.reference_payload`) all make one. An option is a field here: its default, its
limits and its description stand nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from skyfan.aws_limits import MAP_CONCURRENCY
from skyfan.columns import ColumnOptions, checked_by, parts_of
from skyfan.errors import BadInput
from skyfan.missing import parse_missing
from skyfan.pz_form import parse_pz
from skyfan.units import parse_size

JOB_SCHEMA: Literal["skyfan.job/1"] = "skyfan.job/1"
DEMO_MODEL = "demo"
"""The packaged model."""
WHOLE_FILES = "file"
"""As a partition size: each file is one partition."""
AUTO_SIZE: Literal["auto"] = "auto"
"""As a partition size: `DEFAULT_PARTITION_BYTES`, and on a GPU as many such partitions a rank as keep it busy."""
DEFAULT_PARTITION_BYTES = 25 * 2**20

MAX_CLASSES = 1000
"""A confusion matrix of more is no use to a reader, and large."""

PointEstimate = Literal["auto", "median", "mean", "mode"]
Precision = Literal["float32", "tf32", "fp16", "bf16", "int8", "auto"]
Device = Literal["auto", "cpu", "cuda"]
Compute = Literal["lambda", "batch", "batch-gpu", "sagemaker"]
LAMBDA: Compute = "lambda"
GPU_COMPUTE: Compute = "batch-gpu"


def _size_bytes(value: object) -> object:
    if value is None:  # how plans of schema 1 write it
        return WHOLE_FILES
    if not isinstance(value, str) or value in (WHOLE_FILES, AUTO_SIZE):
        return value
    try:
        return parse_size(value)
    except BadInput as error:
        raise ValueError("write a number with KB, MB or GB, such as 25MB, 'file' or 'auto'") from error


def _one_or_several(value: object) -> object:
    """A list of one is that one."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _pz(text: str | None) -> str | None:
    return None if text is None else str(parse_pz(text))


def _class_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The classes' names; a number alone is how many there are."""
    if len(names) == 1 and names[0].isdecimal():
        if not 2 <= int(names[0]) <= MAX_CLASSES:
            raise ValueError(f"write names, or a number of classes from 2 to {MAX_CLASSES:,}")
        return tuple(map(str, range(int(names[0]))))
    if len(names) == 1 or len(names) > MAX_CLASSES or len(set(names)) < len(names):
        raise ValueError(f"write 2 to {MAX_CLASSES:,} names, each once, or how many classes there are")
    return names


Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(parts_of)]
PartitionSize = Annotated[Annotated[int, Field(ge=1)] | Literal["file", "auto"], BeforeValidator(_size_bytes)]


def size_in_bytes(size: PartitionSize) -> int | None:
    """The partition size as a number; None: each file is one partition."""
    if size == AUTO_SIZE:
        return DEFAULT_PARTITION_BYTES
    return None if size == WHOLE_FILES else int(size)


class RunOptions(ColumnOptions):
    """The options that are part of a run's identity, because predictions or records depend on them."""

    batch_size: Count = Field(512, description="samples per forward pass")
    precision: Precision = Field(
        "float32", description="arithmetic: float32, or reduced as bf16, int8, auto; tf32, fp16 on GPUs"
    )
    engine: str = Field("auto", description="inference engine; auto takes the fastest that is installed")
    compile: bool = Field(
        False, description="compile the model for the GPU with torch: about 20 s more at the start, faster from then on"
    )
    z_column: int | None = Field(None, ge=0, description="which output column is redshift (not needed for AstroMAE)")
    random_seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="let a program (.pt2) draw random numbers, as for MC dropout; torch is seeded with this number",
    )
    augment: Literal["none", "symmetries"] = Field(
        "none", description="symmetries: predict each image turned and mirrored, 8 times; mean and standard deviation"
    )
    id: str | None = Field(None, min_length=1, description="the dataset's column of object IDs, kept in the results")
    keep: Names = Field((), description="further columns of the dataset to keep in the results, or all")
    outputs: Names = Field((), description="outputs of the model to keep, by name; all by default")
    pz: Annotated[str | None, AfterValidator(_pz)] = Field(
        None,
        description="form of p(z) that the model gives: grid=LOW:HIGH:POINTS, bins=LOW:HIGH:COUNT, "
        "quantiles=LEVEL:LEVEL:…, samples, or mixture (of its outputs z_mean, z_sigma, z_weight)",
    )
    point_estimate: PointEstimate = Field(
        "auto",
        description="what z_pred is of a p(z): its median, mean or mode (the results have all three); auto is the "
        "model's own redshift, or the median where it gives none",
    )
    classes: Annotated[Names, AfterValidator(_class_names)] = Field(
        (), description="names of the classes that the model scores, or how many there are"
    )
    labels: str | None = Field(
        None,
        min_length=1,
        description="the dataset's column of known classes (numbers from 0, or names); label by default",
    )
    missing: Annotated[Names, checked_by(parse_missing)] = Field(
        (), description="what to do with missing values: [COLUMN=]skip, zero, fail or quantile:Q; skip by default"
    )
    sentinel: Annotated[tuple[FiniteFloat, ...], BeforeValidator(parts_of)] = Field(
        (), description="numbers that stand for a missing value in the inputs, such as 99,-99"
    )


class Job(RunOptions):
    """One run: what to predict, with which model, cut into which partitions, and under which rules.

    `Job(dataset="sky.pt")` is complete; every other field has a default. Sizes are bytes, or text such as "25MB".

    Raises:
        pydantic.ValidationError: a field is unknown, of the wrong type or out of range.
    """

    schema_: Literal["skyfan.job/1"] = Field(JOB_SCHEMA, alias="schema")
    dataset: str = Field(
        min_length=1,
        description="a file (.pt, .npy, .npz, .safetensors, .h5, .parquet, .fits) or a folder of them",
    )
    catalog: str | None = Field(
        None,
        min_length=1,
        description="table (Parquet, FITS, HDF5, CSV, ECSV) that has further columns for --id, --keep, --target and "
        "--inputs; joined by row number, or by --id where the data has that column",
    )
    output: str = Field("", description="the run's folder (path or URI); runs/<dataset> by default")
    model: Annotated[str | tuple[str, ...], BeforeValidator(_one_or_several)] = Field(
        DEMO_MODEL,
        min_length=1,
        description="checkpoint (.pt, .safetensors), program (.pt2) or ONNX file: path or URI; several, or a folder of "
        "them, all predict",
    )
    partition_size: PartitionSize = Field(
        AUTO_SIZE,
        validation_alias=AliasChoices("partition_size", "partition_size_bytes"),
        description="about how much data a partition holds (MB is 2^20 bytes), or 'file': one a file; auto is 25MB, "
        "and on a GPU several of these a rank",
    )
    world_size: Count | None = Field(None, description="number of ranks; one a partition by default, fewer on a GPU")
    file_limit: Count | None = Field(None, description="use at most this many partitions")
    workers: Annotated[int, Field(ge=1, le=MAP_CONCURRENCY)] | None = Field(
        None,
        validation_alias=AliasChoices("workers", "max_concurrency"),
        description="ranks at once; by default as many as cores, memory and GPUs feed; 1,000 on aws",
    )
    device: Device | None = Field(
        None, description="compute device on process and local: auto, cpu or cuda; auto is the GPU if there is one"
    )
    compute: Compute = Field(
        LAMBDA,
        description="what computes the ranks on aws: lambda, batch, batch-gpu or sagemaker",
    )
    tolerated_failure_percentage: float = Field(
        0.0, ge=0, le=100, description="percentage of ranks that may fail before the run is a failure"
    )
    resume: bool = Field(True, description="reuse what an earlier start of this very run committed")
    calibrate: str | None = Field(
        None,
        min_length=1,
        description="a dataset with known redshifts, none of them the dataset's: intervals z_low to z_high are "
        "calibrated on it, to hold 68% of the redshifts",
    )
    extend: bool = Field(
        False, description="of a dataset that grew, predict only the files that are new, into the same run"
    )
    verify_reads: bool = Field(
        False, description="compare what is read with the CRC-32s that the dataset's files hold, where they do"
    )
    collectives: bool = Field(
        False, description="ranks start together, and end knowing the whole run's metrics; all must run at once"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_output(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping) or not isinstance(fields.get("dataset"), str):
            return fields
        if str(fields.get("output") or "").strip():
            return fields
        stem = PurePath(fields["dataset"].strip().rstrip("/")).stem
        return {**fields, "output": f"runs/{'run' if stem in ('', '.', '..') else stem}"}

    @property
    def models(self) -> tuple[str, ...]:
        """All models that the job names."""
        return (self.model,) if isinstance(self.model, str) else self.model

    def with_models(self, models: Sequence[str]) -> Self:
        """The same job with these models."""
        return self.model_copy(update={"model": models[0] if len(models) == 1 else tuple(models)})

    @property
    def options(self) -> RunOptions:
        """The part of this job that predictions depend on."""
        return RunOptions(**{name: getattr(self, name) for name in RunOptions.model_fields})

    @property
    def partition_size_bytes(self) -> int | None:
        """The partition size as a number; None: each file is one partition."""
        return size_in_bytes(self.partition_size)

    @classmethod
    def checked(cls, fields: Mapping[str, object], spelled: Callable[[str], str] = str) -> Self:
        """The job of these fields; `spelled` gives the name under which the user knows a field.

        Raises:
            BadInput: a field is unknown, missing or out of range; the sentence names it and what is allowed.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise BadInput(_sentence(error, spelled)) from error

    def to_json(self) -> str:
        """The JSON text that an execution is started with."""
        return self.model_dump_json(by_alias=True)


def _sentence(error: ValidationError, spelled: Callable[[str], str]) -> str:
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "the job"
    name, given, context = spelled(field), first["input"], first.get("ctx", {})
    match first["type"]:
        case "missing":
            return f"{name} is missing."
        case "extra_forbidden":
            return f"{name} is unknown; known are {', '.join(_known())}."
        case "literal_error":
            return f"{name} is {given!r}; choose one of {_choices(context['expected'])}."
        case "greater_than_equal":
            return f"{name} is {given!r}; it must be at least {context['ge']:g}."
        case "less_than_equal":
            return f"{name} is {given!r}; it must be at most {context['le']:g}."
        case "value_error":
            return f"{name} is {given!r}; {context['error']}."
        case _:
            return f"{name} is {given!r}: {first['msg'].lower()}."


def _choices(expected: str) -> str:
    """Pydantic's "'a', 'b' or 'c'" as "a, b, c"."""
    return expected.replace("'", "").replace(" or ", ", ")


def _known() -> list[str]:
    names = [name for name in Job.model_fields if name != "schema_"]
    return sorted(names, key=lambda name: (name not in ("dataset", "output"), names.index(name)))
