"""Figures of a run in a local MLflow file store, ``mlruns/`` of its folder."""

from __future__ import annotations

import csv
import io
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ticketsearch.experiment.trackers.tracker import TABLE, Tracker, table_records
from ticketsearch.runs import ContenderRow, Run
from ticketsearch.settings import leaves, value_text
from ticketsearch.storage import refuse_links

__all__ = ["MLflow"]

FOLDER, EXPERIMENT = "mlruns", "ticketsearch"
# Every generation has this figure, which is logged last.
ALWAYS = "seconds"
# Set before MLflow is imported: no network, and the file store, which versions from 3.11 on ask for.
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
# The most settings that one call logs.
BATCH = 100


class MLflow(Tracker):
    """Writes one MLflow run: settings as parameters, figures as metrics by generation, and the table."""

    extra, module = "mlflow", "mlflow"
    client: Any
    run_id: str
    # The last generation of each metric that is logged.
    logged: dict[str, int]

    def begin(self, run: Run) -> int:
        """Find the MLflow run of earlier processes, or make one."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        refuse_links(run.path, [FOLDER])
        self.client = MlflowClient(tracking_uri=(run.path / FOLDER).resolve().as_uri())
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else self.client.create_experiment(EXPERIMENT)
        logged = self.client.search_runs([number], order_by=["attributes.start_time ASC"], max_results=1)
        self.logged = {}
        if not logged:
            self._create(run, number)
            return -1
        self.run_id = logged[0].info.run_id
        self.client.set_terminated(self.run_id, "RUNNING")
        for name in logged[0].data.metrics:
            history = self.client.get_metric_history(self.run_id, name)
            self.logged[name] = max(metric.step for metric in history)
        return self.logged.get(ALWAYS, -1)

    def _create(self, run: Run, experiment: str) -> None:
        from mlflow.entities import Param

        self.run_id = self.client.create_run(experiment, run_name=run.name).info.run_id
        params = [
            Param(name, value_text(value) or "(empty)") for name, value in leaves(run.settings.model_dump())
        ]
        for start in range(0, len(params), BATCH):
            self.client.log_batch(self.run_id, params=params[start : start + BATCH])

    def log(self, generation: int, figures: Mapping[str, float]) -> None:
        """Write a metric for each figure."""
        self._metrics(generation, figures)

    def log_table(self, generation: int, rows: Sequence[ContenderRow]) -> None:
        """Write the table as metrics and as an artifact, and end the MLflow run."""
        records = table_records(rows)
        self._metrics(
            generation,
            {
                f"final_{name}/{_plain(str(record['contender']))}": float(record[name])
                for record in records
                for name in TABLE[1:]
                if name in record
            },
        )
        text = io.StringIO()
        writer = csv.DictWriter(text, TABLE, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        self.client.log_text(self.run_id, text.getvalue(), "results.csv")
        self.client.set_terminated(self.run_id)

    def _metrics(self, generation: int, values: Mapping[str, float]) -> None:
        """Write metrics, except for those that a process that was killed has written."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [
            Metric(name, value, now, generation)
            for name, value in values.items()
            if generation > self.logged.get(name, -1)
        ]
        self.client.log_batch(self.run_id, metrics=metrics)


def _plain(text: str) -> str:
    """Return a text without the characters that MLflow refuses in names."""
    return re.sub(r"[^\w .:/-]", "", text, flags=re.ASCII)
