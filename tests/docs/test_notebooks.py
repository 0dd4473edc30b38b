"""The notebooks run as they stand, in a folder of their own."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"
TIMEOUT_S = 180


def executed(name, folder):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def outputs(cell, kind):
    return [output["data"][kind] for output in cell.outputs if kind in output.get("data", {})]


@pytest.mark.filterwarnings("ignore")
def test_redshifts_from_the_run_to_the_plot_and_again(tmp_path):
    cells = [cell for cell in executed("redshifts.ipynb", tmp_path).cells if cell.cell_type == "code"]
    _, ran, frame, plot, again = cells
    assert "1,000 of 1,000" in outputs(ran, "text/html")[-1]
    assert len(ran.outputs) == 2  # one line of progress, which is replaced, and the summary
    assert "z_pred" in outputs(frame, "text/html")[0]
    assert outputs(plot, "image/png")
    nmad = json.loads((tmp_path / "runs" / "galaxies" / "summary.json").read_text())["science"]["nmad"]
    assert outputs(again, "text/plain") == [str(nmad)]
    assert nmad < 0.02


@pytest.mark.filterwarnings("ignore")
def test_from_a_spectroscopic_sample_to_calibrated_catalogues(tmp_path):
    cells = [cell for cell in executed("calibrated-pz.ipynb", tmp_path).cells if cell.cell_type == "code"]
    summary = json.loads((tmp_path / "runs" / "photoz" / "summary.json").read_text())
    assert summary["science"]["nmad"] < 0.03
    assert summary["science"]["pit_ks_p"] > 0.001
    assert 0.62 < summary["science"]["coverage"] < 0.74
    assert outputs(cells[4], "image/png")
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells[-2:]]
    assert printed[0].startswith(("1000 galaxies", "skipped"))
    assert "of 1000 galaxies within" in printed[1] or printed[1].startswith("skipped")
