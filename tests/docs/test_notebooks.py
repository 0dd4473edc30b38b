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
