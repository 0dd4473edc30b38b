"""What `skyfan analyse` prints: published tables, how well they are reproduced, the true numbers, the flags."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from skyfan import store
from skyfan.cost import Prices
from skyfan.runs.finding import COMBINED, RecordedRun
from skyfan.studies.published.cluster_results import ClusterResult, read_clusters
from skyfan.studies.published.corrected import Configuration, Corrected, by_configuration, correct, our_measurements
from skyfan.studies.published.published_runs import ReferenceRun, find_all_runs, reference_runs
from skyfan.studies.published.published_tables import (
    BATCH_KEYS,
    STATS_KEYS,
    Row,
    adjusted,
    batch_varying,
    read_csv,
    result_stats,
)
from skyfan.studies.published.table_check import TableCheck, check_table
from skyfan.studies.published.timings import timings_of


@dataclasses.dataclass(frozen=True, slots=True)
class Analysis:
    """The result for all runs under one folder."""

    runs: tuple[RecordedRun, ...]
    tables: dict[str, list[Row]]
    checks: tuple[TableCheck, ...]
    corrected: tuple[Corrected, ...]
    clusters: tuple[ClusterResult, ...] = ()

    @property
    def configurations(self) -> list[Configuration]:
        """Published against true rates of configurations with a complete run."""
        return by_configuration(self.runs, self.corrected)

    @property
    def incomplete(self) -> tuple[Corrected, ...]:
        """Runs with fewer ranks than planned."""
        return tuple(row for row in self.corrected if row.complete is False)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema": "skyfan.analysis/1",
            "tables": self.tables,
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "configurations": [
                {**dataclasses.asdict(row), "overstated": row.overstated} for row in self.configurations
            ],
            "runs": [row.to_json_dict() for row in self.corrected],
            "clusters": [{**dataclasses.asdict(row), "overstated": row.overstated} for row in self.clusters],
        }


def analyse(folder: str, prices: Prices, region: str = "us-east-1") -> Analysis:
    """Reads every run under `folder` (path or URI), of the reference system and of Skyfan, and published clusters.

    Raises:
        BadInput: no run is there, or one cannot be read.
    """
    uris = [info.uri for info in store.list(folder.rstrip("/"))]
    clusters, theirs = read_clusters(uris)
    has_runs = any(uri.endswith(f"/{COMBINED}") for uri in uris)
    runs = find_all_runs(folder) if has_runs or not clusters else []
    published = reference_runs(runs)
    others = [uri for uri in uris if uri not in theirs]
    timings = timings_of(others)
    tables: dict[str, list[Row]] = {
        "result_stats.csv": result_stats(published),
        "batch_varying_results.csv": batch_varying(published),
        "batch_varying_results, 100 MB": batch_varying(published, partition_mb=100),
        "result_stats_adjusted.csv": adjusted(published, timings.durations),
        "skyfan runs": [
            {"run": run.name, **our_measurements(run)} for run in runs if not isinstance(run, ReferenceRun)
        ],
    }
    return Analysis(
        runs=tuple(runs),
        tables={name: rows for name, rows in tables.items() if rows},
        checks=_checks(others, tables),
        corrected=tuple(correct(run, timings, prices, region) for run in runs),
        clusters=tuple(clusters),
    )


def _checks(uris: Sequence[str], tables: dict[str, list[Row]]) -> tuple[TableCheck, ...]:
    keys = {
        "result_stats.csv": STATS_KEYS,
        "batch_varying_results.csv": BATCH_KEYS,
        "result_stats_adjusted.csv": STATS_KEYS,
    }
    checks = []
    for uri in uris:
        name = uri.rsplit("/", 1)[-1]
        if name in keys:
            checks.append(check_table(name, read_csv(uri), tables[name], keys[name]))
    return tuple(sorted(checks, key=lambda check: check.table))
