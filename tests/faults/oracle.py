"""What must hold after every cell, whatever broke: read from the files, not asked of Skyfan."""

import io
import json
from dataclasses import dataclass

import pyarrow.parquet as pq

from skyfan import store

TOLERANCE = 2e-5


@dataclass(frozen=True)
class Left:
    """What a run left: values by sample, the bytes of each rank's file, and what is wrong with them."""

    values: dict[int, float]
    files: dict[str, bytes]
    wrong: tuple[str, ...]
    state: str | None


def look(output: str) -> Left:
    """Reads all that is in the folder; a file that cannot be read or a sample that is there twice is wrong."""
    values: dict[int, float] = {}
    files: dict[str, bytes] = {}
    wrong = []
    for entry in store.list(store.join(output, "predictions")):
        files[entry.uri] = store.read(entry.uri)
        try:
            table = pq.read_table(io.BytesIO(files[entry.uri]))
        except Exception as error:  # noqa: BLE001 (whatever a damaged file raises)
            wrong.append(f"{entry.uri} is partial: {error}")
            continue
        for sample, value in zip(table["sample_index"].to_pylist(), table["z_pred"].to_pylist(), strict=True):
            if sample in values:
                wrong.append(f"sample {sample} is there twice")
            values[sample] = value
    summary = store.join(output, "summary.json")
    found = json.loads(store.read(summary)) if store.exists(summary) else None
    if found:
        wrong += _wrong_summary(found, values)
    return Left(values, files, tuple(wrong), found and found["state"])


def _wrong_summary(summary: dict, values: dict[int, float]) -> list[str]:
    done, wrong = summary["completeness"], []
    listed = {one for start, stop in done["missing_sample_ranges"] for one in range(start, stop)}
    # Another driver, or the rest of a rank that was given up, may commit after the summary: more is never wrong.
    if not set(range(done["samples_planned"])) - set(values) <= listed:
        wrong.append(f"the summary does not list all of {done['samples_planned'] - len(values)} missing samples")
    if (summary["state"] == "complete") != (done["samples_missing"] == 0):
        wrong.append(f"the summary is {summary['state']}, and {done['samples_missing']} samples are missing")
    times = summary["timing"]
    if any(value < 0 or value > 3600 for value in times.values()):
        wrong.append(f"times are {times}")
    return wrong


def wrong_after_first(left: Left, code: int | None, expected: dict[int, float]) -> list[str]:
    """After the run that broke; `code` is None where it was killed."""
    wrong = [*left.wrong, *_wrong_values(left, expected)]
    if code == 0 and (left.state != "complete" or len(left.values) != len(expected)):
        wrong.append(f"exit code 0, but {left.state} with {len(left.values)} samples")
    if code not in (0, None) and left.state == "complete":
        wrong.append(f"exit code {code}, but the summary is complete")
    return wrong


def wrong_after_second(before: Left, after: Left, code: int | None, expected: dict[int, float]) -> list[str]:
    """After the same job was run again, without a fault."""
    wrong = [*after.wrong, *_wrong_values(after, expected)]
    if code != 0 or after.state != "complete" or after.values.keys() != expected.keys():
        wrong.append(f"again: exit code {code}, {after.state}, {len(after.values)} of {len(expected)} samples")
    wrong += [f"again: {uri} was written anew" for uri in before.files if after.files.get(uri) != before.files[uri]]
    return wrong


def _wrong_values(left: Left, expected: dict[int, float]) -> list[str]:
    return [
        f"sample {sample} is {value}, not {expected.get(sample)}"
        for sample, value in left.values.items()
        if abs(value - expected.get(sample, float("inf"))) > TOLERANCE * max(1, abs(value))
    ][:2]
