"""A notebook, executed: own arrays and an own module, a search, its tables, and the network taken home."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

import ticketsearch as ts

pytestmark = pytest.mark.slow

CELLS = {
    "data": """
import numpy as np
import torch
import ticketsearch as ts

rng = np.random.default_rng(0)
x = rng.normal(loc=20, scale=4, size=(400, 3))
y = (x[:, 0] + x[:, 1] > 40).astype(int)
x_test, y_test = x[300:], y[300:]

class Net(torch.nn.Module):
    def __init__(self, input_shape, classes, hidden=16):
        super().__init__()
        self.first = torch.nn.Linear(input_shape[0], hidden)
        self.last = torch.nn.Linear(hidden, classes)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))
""",
    "search": """
run = ts.search(
    data=(x[:300], y[:300], x_test, y_test), model=Net, density=0.4, name="mine", population=6, generations=3,
    steps=30, initializations=2, **{"final.steps": 100, "final.orders": 2},
)
run
""",
    "tables": """
results = run.dataframe("results")
best = results[(results.contender == "best ticket") & (results.part == "test")]
print(len(run.dataframe()), len(run.dataframe("generations")), best.accuracy.iloc[0])
run.dataframe("generations")
""",
    "trained": """
network = run.trained()
logits = network(run.standardize(x_test))
print((logits.argmax(1).numpy() == y_test).mean())
""",
    "compact": """
compact = run.compact()
print(torch.allclose(compact(run.standardize(x_test)), logits, atol=1e-6))
run.export("best.onnx", "onnx")
""",
    "onnx": """
import onnxruntime

session = onnxruntime.InferenceSession("best.onnx")
(outputs,) = session.run(None, {"inputs": run.standardize(x_test).numpy()})
print(np.allclose(outputs, logits.detach().numpy(), atol=1e-5))
""",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The cells of the notebook after its execution, by name, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS.values()])
    kernel = folder / "kernels" / "tested"
    kernel.mkdir(parents=True)
    launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": launch, "display_name": "tested", "language": "python"})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PYTHONPATH", str(Path(ts.__file__).parents[1]))
        where = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="tested", resources=where).execute()
    return dict(zip(CELLS, notebook.cells, strict=True)), folder


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def shown(cell, kind="text/plain"):
    """Return what the cell shows, one text an output, in a format."""
    return [output.data.get(kind, "") for output in cell.outputs if output.output_type != "stream"]


def test_a_notebook_takes_arrays_and_a_module_to_a_network_in_onnx(executed):
    cells, folder = executed
    with ts.Run.open(folder / "runs" / "mine") as run:
        assert run.settings.model.name == "object:Net"
        (first, *_) = [r.accuracy for r in run.results() if (r.contender, r.part) == ("best ticket", "test")]
        assert printed(cells["tables"]) == f"{len(run.tickets())} {len(run.statistics())} {first}\n"
    assert printed(cells["trained"]) == f"{first}\n"
    assert printed(cells["compact"]) == printed(cells["onnx"]) == "True\n"
    assert (folder / "best.onnx").is_file()
    assert "best" in shown(cells["tables"])[0]


def test_progress_is_one_table_that_is_saved_with_the_notebook(executed):
    cells, _ = executed
    table, result = shown(cells["search"], "text/html")
    assert [row for row in range(5) if f" {row}/3 " in table] == [0, 1, 2, 3]
    assert re.search("generation +best fitness", table)
    assert "Run mine is finished" in table
    assert "<svg " in result
    assert shown(cells["search"])[1].startswith("Run('mine', finished, density 0.4, best ticket ")


def test_no_cell_prints_a_warning(executed):
    cells, _ = executed
    errors = [
        output.text for cell in cells.values() for output in cell.outputs if output.get("name") == "stderr"
    ]
    assert errors == []
