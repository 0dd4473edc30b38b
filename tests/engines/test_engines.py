"""Engines give torch's outputs, whatever the batch, and refuse what they cannot do."""

import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skyfan.engines import check, create_engine
from skyfan.engines.openvino_engine import fastest_first, processor_flags, supported_precisions
from skyfan.errors import BadInput, ModelError
from skyfan.formats.torch import open_tensorfile, write_tensorfile
from skyfan.job import RunOptions
from skyfan.models.loading import LoadedModel
from skyfan.stages.calibration import first_samples
from tests.engines.support import inputs, loaded_model

pytestmark = pytest.mark.slow

pytest.importorskip("skyfan.engines.openvino_import")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_openvino_gives_torchs_outputs_for_any_batch(loaded: LoadedModel, count: int) -> None:
    engine = create_engine(loaded, RunOptions(engine="openvino"), threads=2)
    reference = create_engine(loaded, RunOptions(engine="torch"), threads=2)
    expected = reference.predict(inputs(count))
    found = engine.predict(inputs(count))
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= 1e-4 * np.maximum(1, np.abs(expected))).all()


def test_record_says_what_ran(loaded: LoadedModel) -> None:
    info = create_engine(loaded, RunOptions(engine="openvino"), threads=1).info
    assert (info.name, info.precision, info.threads, info.reason) == ("openvino", "float32", 1, "asked for")
    assert info.deviation is not None
    assert 0 <= info.deviation["relative"] < 1e-4


def test_converted_model_that_deviates_is_refused(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TOLERANCE", 0.0)
    with pytest.raises(ModelError, match=r"deviates from torch by .*use --engine torch"):
        create_engine(loaded, RunOptions(engine="openvino"), threads=1)
    monkeypatch.setattr("skyfan.engines.choose.OPENVINO_PAYS_FROM_PARAMETERS", 1)
    info = create_engine(loaded, RunOptions(), threads=1).info
    assert info.name == "torch"
    assert "deviates from torch" in info.reason


def test_unknown_engine_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(BadInput, match="choose one of"):
        create_engine(loaded, RunOptions(engine="abacus"), threads=1)


def test_torch_has_no_reduced_precision(loaded: LoadedModel) -> None:
    with pytest.raises(BadInput, match="not available with the torch engine"):
        create_engine(loaded, RunOptions(engine="torch", precision="bf16"), threads=1)


def test_sample_has_the_same_answer_in_any_batch(loaded: LoadedModel) -> None:
    engine = create_engine(loaded, RunOptions(engine="openvino"), threads=2)
    values = inputs(130)
    alone = engine.predict([tensor[100:101] for tensor in values])
    np.testing.assert_array_equal(engine.predict(values)[100:101], alone)


@pytest.mark.skipif(not (sys.platform == "linux" and platform.machine() == "x86_64"), reason="asks Linux on x86")
def test_int8_is_offered_where_the_processor_has_instructions_for_it() -> None:
    flags = processor_flags()
    assert ("int8" in supported_precisions()) == any("vnni" in flag or flag == "amx_int8" for flag in flags)


@pytest.mark.parametrize(
    ("flags", "first"), [({"avx512_bf16", "avx512_vnni"}, "int8"), ({"amx_bf16", "amx_int8"}, "bf16"), (set(), "int8")]
)
def test_auto_tries_the_precision_first_that_was_measured_to_be_faster(flags: set[str], first: str) -> None:
    assert fastest_first(flags)[0] == first


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_reduced_precision_says_how_far_it_is_off(loaded: LoadedModel, precision: Any) -> None:
    if precision not in supported_precisions():
        pytest.skip(f"this processor has no {precision}")
    values = inputs(100)
    engine = create_engine(loaded, RunOptions(precision=precision), threads=1, samples=lambda: values)
    expected = create_engine(loaded, RunOptions(engine="torch"), threads=1).predict(values)
    largest = float(np.abs(engine.predict(values) - expected).max())
    assert engine.info.precision == precision
    assert engine.info.deviation is not None
    assert engine.info.deviation["max_abs"] == pytest.approx(largest, rel=1e-3)
    assert 0 < largest < 0.2 * expected.std()


def test_auto_precision_stays_with_float32_where_rounding_costs_too_much(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyfan.engines.choose.AUTO_MAX_DEVIATION", 0.0)
    info = create_engine(loaded, RunOptions(engine="openvino", precision="auto"), threads=1).info
    assert info.precision == "float32"
    assert "no reduced precision is accurate enough" in info.reason


def test_auto_leaves_small_models_to_torch(loaded: LoadedModel) -> None:
    info = create_engine(loaded, RunOptions(), threads=1).info
    assert (info.name, info.reason) == ("torch", "auto: a model this small is not worth converting")


def test_auto_takes_openvino_for_large_models(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyfan.engines.choose.OPENVINO_PAYS_FROM_PARAMETERS", 1)
    assert create_engine(loaded, RunOptions(), threads=1).info.name == "openvino"


def test_calibration_reads_the_start_of_the_file_without_its_damaged_rows(loaded: LoadedModel, tmp_path: Path) -> None:
    image, magnitude = inputs(20)
    image[3, 0, 5, 5] = np.nan
    path = tmp_path / "data.pt"
    write_tensorfile(path, [image, magnitude, np.zeros(20, np.float32)])
    read = first_samples(open_tensorfile(str(path)), loaded, RunOptions())
    assert read is not None
    keep = np.arange(20) != 3
    np.testing.assert_array_equal(read[0], image[keep])
    np.testing.assert_array_equal(read[1], magnitude[keep])
