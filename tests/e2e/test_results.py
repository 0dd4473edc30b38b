"""The table that comes out of a run: IDs and columns of the dataset, outputs by name, reasons."""

import pytest
import torch

import skyfan
from skyfan.errors import BadInput, DatasetError, ModelError, RankTooLarge
from skyfan.partitioning import MAX_RESULT_BYTES, PARTITION_RESULT_BYTES
from tests.e2e.support import make_job, run

ROWS = 40
FIRST_ID = 4873214862074861313


class Heads(torch.nn.Module):
    """A redshift, an embedding and a map, by name."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(5, 7)

    def forward(self, magnitude):
        y = self.linear(magnitude)
        return {"z": y[:, 0], "embedding": y[:, 1:4], "map": y[:, 3:].reshape(-1, 2, 2)}


class Wide(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width

    def forward(self, magnitude):
        return magnitude.sum(1, keepdim=True).expand(-1, self.width) * 1.0


def exported(model, path):
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(model.eval(), (torch.rand(4, 5),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


@pytest.fixture
def heads(tmp_path):
    torch.manual_seed(0)
    return exported(Heads(), tmp_path / "heads.pt2")


@pytest.fixture
def catalogue(tmp_path):
    torch.manual_seed(1)
    columns = {
        "magnitude": torch.rand(ROWS, 5) + 18,
        "objid": torch.arange(ROWS) + FIRST_ID,
        "ra": torch.rand(ROWS, dtype=torch.float64) * 360,
        "redshift": torch.rand(ROWS),
    }
    columns["magnitude"][3, 1] = torch.nan
    columns["magnitude"][7] = 99
    columns["objid"][9] = FIRST_ID
    torch.save(columns, tmp_path / "sky.pt")
    return tmp_path / "sky.pt", columns


def test_ids_and_columns_pass_through_and_outputs_have_their_names(catalogue, heads, tmp_path):
    path, columns = catalogue
    options = {"partition_size_bytes": 3000, "id": "objid", "keep": "ra", "z_column": 0, "missing": "quantile:0.5"}
    summary = run(make_job(path, heads, tmp_path / "run", **options, sentinel="99"))
    table = skyfan.open_run(str(tmp_path / "run")).predictions()
    assert table["objid"].to_pylist() == columns["objid"].tolist()
    assert table["ra"].to_pylist() == columns["ra"].tolist()
    assert table.column_names[3:] == [
        *("z_pred", "z_spec", "delta_z", "embedding", "map", "replaced_values", "missing"),
    ]
    assert [len(row) for row in table["embedding"].to_pylist()[:2]] == [3, 3]
    assert table["missing"].to_pylist()[7] == "values that stand for missing ones in magnitude"
    assert table["replaced_values"].to_pylist()[3] == 1
    assert (summary.ids.duplicates, summary.ids.nulls) == (1, 0)
    assert (summary.replaced_values, summary.samples_replaced) == ({"magnitude": 1}, 1)


def test_results_do_not_depend_on_how_the_dataset_is_cut(catalogue, heads, tmp_path):
    path, _ = catalogue
    tables = []
    for number, size in enumerate((2500, 10**6)):
        run(make_job(path, heads, tmp_path / f"{number}", partition_size_bytes=size, id="objid", keep="all"))
        tables.append(skyfan.open_run(str(tmp_path / f"{number}")).predictions())
    one, other = (table.select(["objid", "ra", "redshift", "missing"]) for table in tables)
    assert one.equals(other)


def test_a_column_with_a_customary_name_holds_the_ids_where_none_is_named(catalogue, heads, tmp_path):
    summary = run(make_job(catalogue[0], heads, tmp_path / "run", partition_size_bytes=10**6))
    assert skyfan.open_run(str(tmp_path / "run")).predictions()["objid"].to_pylist() == catalogue[1]["objid"].tolist()
    assert (summary.ids.column, summary.ids.duplicates) == ("objid", 1)


def test_outputs_selects(catalogue, heads, tmp_path):
    run(make_job(catalogue[0], heads, tmp_path / "run", partition_size_bytes=10**6, outputs="map"))
    table = skyfan.open_run(str(tmp_path / "run")).predictions()
    assert table.column_names == ["sample_index", "objid", "map", "missing"]


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"id": "oid"}, DatasetError, "no column oid, which --id names; it has magnitude, objid, ra, redshift"),
        ({"id": "magnitude"}, DatasetError, "several values a row"),
        ({"keep": "dec"}, DatasetError, "no column dec, which --keep names"),
        ({"outputs": "mu"}, ModelError, "no output mu, which --outputs names; it gives z, embedding, map"),
        ({"missing": "image=zero"}, DatasetError, "none of the model's inputs: magnitude"),
    ],
)
def test_names_that_are_not_there_are_refused_before_anything_is_written(
    catalogue, heads, tmp_path, options, kind, sentence
):
    with pytest.raises(kind, match=sentence):
        run(make_job(catalogue[0], heads, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_a_name_that_two_columns_would_have_is_refused(tmp_path, heads):
    torch.save({"magnitude": torch.rand(3, 5), "map": torch.arange(3)}, tmp_path / "x.pt")
    with pytest.raises(BadInput, match="two columns of the results would be called map"):
        run(make_job(tmp_path / "x.pt", heads, tmp_path / "run", keep="map"))


def test_ranks_with_wide_outputs_are_smaller(tmp_path):
    width = 4096
    model = exported(Wide(width), tmp_path / "wide.pt2")
    samples = MAX_RESULT_BYTES // (4 * width) + 100
    torch.save({"magnitude": torch.rand(samples, 5)}, tmp_path / "x.pt")
    with pytest.raises(RankTooLarge, match="--world-size 1 would give a rank"):
        run(make_job(tmp_path / "x.pt", model, tmp_path / "run", partition_size_bytes=10**6, world_size=1))
    assert run(make_job(tmp_path / "x.pt", model, tmp_path / "run", partition_size_bytes=10**6)).world_size == 3
    sizes = [path.stat().st_size for path in (tmp_path / "run" / "predictions").iterdir()]
    assert len(sizes) == 3
    assert max(sizes) <= PARTITION_RESULT_BYTES


def test_executors_have_loaded_the_model_before_the_map(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", workers=2, world_size=4)
    ran = skyfan.run(job, on="local", progress=False)
    assert [record.cold_start for record in ran.records] == [False] * 4
    assert ran.summary.environment["devices"] == ["cpu"]
