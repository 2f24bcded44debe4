"""Workers: every backend gives what one process gives, whatever dies; nothing outlives the driver."""

import contextlib
import dataclasses
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import every, refusal, refused
from joblib.externals.loky.backend.reduction import dumps
from torch import nn

import ticketsearch
from ticketsearch.datasets import Dataset, from_arrays, load_dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import pack, unpack
from ticketsearch.models import initialize
from ticketsearch.training import Cohort, Recipe, data_order, evaluate, reproducible, train
from ticketsearch.workers import Source, Spread, check_stopped
from ticketsearch.workers import sources as sources_module
from ticketsearch.workers.processes import Loky

pytestmark = pytest.mark.slow

SHORT = Recipe(steps=12, batch=13)


# --- what is spread: module-level functions, which every process imports


def squared(number):
    return number * number


def slept(seconds):
    for _ in range(round(seconds * 20)):
        time.sleep(0.05)
        check_stopped()
    return seconds


def waited_for(path):
    while not path.exists():
        time.sleep(0.02)


def process(_):
    time.sleep(0.05)
    return os.getpid()


def environment(name):
    return os.environ.get(name), torch.get_num_threads()


def refuses(task):
    if task == 1:
        raise BadInput("a rule, a value; a way out")
    return slept(0.3)


class TwoParts(Exception):  # noqa: N818
    """Cannot be rebuilt from its arguments, as pickling does it."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raises_what_cannot_be_sent(_):
    raise TwoParts("this", "that")


class Unreadable:
    """Can be sent, and not be received: as if its package were missing there."""

    def __reduce__(self):
        return int, ("no number",)


def leaves(_):
    raise SystemExit(3)


def kills_its_process(task):
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return squared(task)


def fails_after_a_while(task):
    """The first task fails as soon as the second runs; that one notes that it has ended too early."""
    folder, index = task
    mark = Path(folder) / str(index)
    mark.touch()
    if index == 0:
        wait_for(lambda: (Path(folder) / "1").exists())
        raise BadInput("the first failed")
    try:
        for _ in range(400):
            time.sleep(0.05)
            check_stopped()
    except InterruptedError:
        (Path(folder) / "stopped").touch()
        raise
    return index


def trained(task):
    """Train one cohort of packed masks; return its losses, its process, and what it made the network of."""
    source, masks, folder, pause = task
    mark = Path(folder) / f"{os.getpid()}-{time.monotonic_ns()}"
    mark.touch()
    network, dataset = source.load()
    rows = np.stack([unpack(row, network.spec) for row in masks])
    with reproducible():
        cohort = Cohort(
            network.wiring,
            rows,
            [network.parameters()],
            device=torch.device("cpu"),
            dtype=torch.float32,
            masking="parameter",
        )
        train(cohort, dataset, SHORT, [data_order(len(dataset.y_train), SHORT, np.random.SeedSequence(1))])
        found = evaluate(cohort, dataset.x_validation, dataset.y_validation)
    time.sleep(pause)
    mark.rename(f"{mark}-done")
    return found.loss, os.getpid(), id(network), id(dataset)


def loaded(source):
    network, dataset = source.load()
    return network.name, network.spec.signature, dataset.fingerprint, type(network.module).__name__


def wide(input_shape, classes, *, width=6):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), width), nn.Linear(width, classes))


# --- what the tests wait for


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def gone(pid):
    """Whether a process has ended; where nobody asks after it, it stays as a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def dask_address():
    """The address of a real dask cluster: a scheduler, and two worker processes under their nannies."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        cluster = distributed.LocalCluster(dashboard_address=":0", silence_logs=50, **options)
    with cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def ray_address(tmp_path_factory):
    """The address of a ray head of two CPUs, which is no part of the test extra."""
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths, "RAY_AUTH_MODE": "disabled"}
    head = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"),
            *("--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"),
            *(f"--temp-dir={tmp_path_factory.mktemp('ray')}", "--object-store-memory=80000000"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.environ["RAY_AUTH_MODE"] = "disabled"
    try:
        wait_for(lambda: answers(port), 60)
        yield f"127.0.0.1:{port}"
    finally:
        del os.environ["RAY_AUTH_MODE"]
        head.terminate()
        head.wait(30)


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


BACKENDS = ["serial", "threads", "loky", "dask", "ray"]
PROCESSES = ["loky", "dask", "ray"]


@pytest.fixture
def spread(request):
    """A spread of the backend that the test is run with."""
    backend = request.param
    options = {"workers": 1 if backend == "serial" else 2}
    if backend in ("dask", "ray"):
        options = {"address": request.getfixturevalue(f"{backend}_address")}
    with Spread(backend, **options) as found:
        yield found


def on(*backends):
    return pytest.mark.parametrize("spread", backends, indirect=True)


# --- results


@on(*every(BACKENDS, default=["threads", "loky", "dask"]))
def test_every_task_is_run_once_and_comes_with_its_index(spread):
    assert sorted(spread.run(squared, range(7))) == [(index, index**2) for index in range(7)]
    assert list(spread.run(squared, [])) == []
    assert spread.workers == (1 if spread.backend == "serial" else 2)


@on(*BACKENDS[1:])
def test_results_come_as_they_finish(spread, tmp_path):
    order = []
    for index, _ in spread.run(waited_for, [tmp_path / "others", tmp_path, tmp_path]):
        order.append(index)
        if len(order) == 2:
            (tmp_path / "others").touch()
    assert order[2] == 0


def test_serial_runs_a_task_when_its_result_is_asked_for():
    done = []
    results = Spread().run(done.append, [3, 1, 2])
    assert next(results) == (0, None)
    assert done == [3]
    assert [index for index, _ in results] == [1, 2]


@on(*PROCESSES)
def test_processes_are_others_than_this_one_and_live_on(spread):
    first = {pid for _, pid in spread.run(process, range(6))}
    second = {pid for _, pid in spread.run(process, range(6))}
    assert len(first | second) == 2
    assert os.getpid() not in first


def test_loky_starts_no_more_processes_than_there_are_tasks():
    assert {pid for _, pid in Spread("loky", 2).run(process, [0])} <= {
        pid for _, pid in Spread("loky", 8).run(process, [0, 1])
    }


@on(*PROCESSES)
def test_a_worker_process_computes_on_one_thread(spread):
    for _, (threads, torchs) in spread.run(environment, ["OMP_NUM_THREADS"] * 2):
        assert (threads, torchs) == ("1", 1)


def test_each_process_of_loky_sees_one_gpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ((_, found),) = Spread("loky", 1, gpus=1).run(environment, ["CUDA_VISIBLE_DEVICES"])
    assert found == ("0", 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-a")
    places = [Loky(3, None, gpus)._places(5) for gpus in (2, 0)]
    assert places == [["GPU-b", "GPU-a", "GPU-b"], [None, None, None]]


def test_places_of_loky_are_made_for_tasks_not_for_workers():
    assert Loky(10**6, None, 0)._places(2) == [None, None]


# --- failures


@on("serial", "threads", "dask", "ray")  # the next but one has it of loky
def test_bad_input_of_a_task_is_raised_with_its_text(spread):
    assert refusal(list, spread.run(refuses, range(20))) == "a rule, a value; a way out"
    assert sorted(spread.run(squared, range(3))) == [(0, 0), (1, 1), (2, 4)]


@on("loky", "dask", "ray")
def test_what_else_a_task_raises_says_what_and_where(spread):
    with pytest.raises(RuntimeError, match="TwoParts: this and that") as caught:
        list(spread.run(raises_what_cannot_be_sent, [0]))
    assert "raises_what_cannot_be_sent" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        list(spread.run(leaves, [0]))
    with pytest.raises(TypeError, match="can't multiply"):
        list(spread.run(squared, ["a"]))


@on("dask", "ray")
def test_a_task_that_a_cluster_cannot_read_is_refused(spread):
    words = f"the {spread.backend} cluster cannot run a task", "all machines need the Python"
    refused(lambda: list(spread.run(squared, [Unreadable()])), *words)


@on("threads", "dask")
def test_a_failure_stops_the_others_where_they_check(spread, tmp_path):
    message = refusal(list, spread.run(fails_after_a_while, [(tmp_path, 0), (tmp_path, 1), (tmp_path, 2)]))
    assert message == "the first failed"
    wait_for((tmp_path / "stopped").exists)
    if spread.backend == "threads":
        assert not (tmp_path / "2").exists()


def test_a_failure_kills_the_other_processes_of_loky(tmp_path):
    spread = Spread("loky", 2)
    pids = {pid for _, pid in spread.run(process, range(4))}
    assert (
        refusal(list, spread.run(fails_after_a_while, [(tmp_path, 0), (tmp_path, 1)])) == "the first failed"
    )
    wait_for(lambda: any(map(gone, pids)), 5)
    assert not all(map(gone, pids))  # the one that failed is as good as new
    assert not (tmp_path / "stopped").exists()


@on(*every(["threads", "loky", "dask", "ray"], default=["threads"]))
def test_leaving_early_ends_the_others(spread):
    begun = time.monotonic()
    results = spread.run(slept, [0.0, *[60.0] * 6])
    assert next(results) == (0, 0.0)
    results.close()
    assert sorted(spread.run(squared, [5, 6])) == [(0, 25), (1, 36)]
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "daks"}, ["unknown backend 'daks' (did you mean 'dask'?)"]),
        ({"backend": []}, ["unknown backend '[]'", "known are dask"]),
        *(
            (
                {"backend": "threads", "workers": workers},
                [f"an integer from 1 to 4096, but got {workers!r}; "],
            )
            for workers in (0, -1, 4097, 99999999999, 1.5, "2", None, True)
        ),
        ({"workers": 4}, ["'serial' is one worker", "workers=4", "'loky'"]),
        ({"backend": "dask"}, ["needs the address", "host:port"]),
        ({"backend": "loky", "address": "here:1"}, ["'here:1'", "leave it out", "dask or ray"]),
    ],
)
def test_what_cannot_be_spread_is_refused(options, words):
    refused(functools.partial(Spread, **options), *words)


@pytest.mark.parametrize(("backend", "what"), [("dask", "dask.distributed"), ("ray", "ray")])
def test_a_missing_extra_is_named(backend, what, monkeypatch):
    monkeypatch.setitem(sys.modules, what.removeprefix("dask."), None)
    wanted = f'backend {backend!r} needs {what}; pip install "ticketsearch[{backend}]"'
    assert refusal(Spread, backend, address="127.0.0.1:1") == wanted


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_an_address_that_cannot_be_reached_is_one_line_soon(backend, monkeypatch):
    pytest.importorskip({"dask": "distributed"}.get(backend, backend))
    monkeypatch.setattr("ticketsearch.workers.clusters.PATIENCE", 0.5)
    begun = time.monotonic()
    for address in ("127.0.0.1:1", "nonsense", "foo://127.0.0.1:2"):
        refused(lambda address=address: Spread(backend, address=address), repr(address), "give the address")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        refused(lambda: Spread(backend, address=address), address, "give the address")
    assert time.monotonic() - begun < 12


@pytest.mark.parametrize("scheme", ["http", "https", "foo"])
def test_of_an_address_that_is_no_schedulers_no_client_is_made(scheme, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: pytest.fail("a client was made"))
    address = f"{scheme}://127.0.0.1:8787"
    refused(
        lambda: Spread("dask", address=address),
        repr(address),
        "tcp://host:port",
        "http address of the dashboard",
    )


def test_a_cluster_without_workers_or_lost_is_one_line(monkeypatch, tmp_path):
    """Its worker is a thread here, which must be let go before the cluster can close."""
    distributed = pytest.importorskip("distributed")
    patience = "ticketsearch.workers.clusters.PATIENCE"
    monkeypatch.setattr("ticketsearch.workers.clusters.RECOVERY", 0.5)
    monkeypatch.setattr(patience, 2.0)
    options = {"processes": False, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=0, threads_per_worker=1, **options) as cluster:
        address = cluster.scheduler_address
        refused(lambda: Spread("dask", address=address), address, "must have workers", "`dask worker ")
        cluster.scale(1)
        with Spread("dask", address=address) as spread:
            monkeypatch.setattr(patience, 0.3)
            results = spread.run(waited_for, [tmp_path, tmp_path / "later"])
            assert next(results) == (0, None)
            cluster.scale(0)
            refused(lambda: next(results), "must have workers")
            (tmp_path / "later").touch()
            cluster.scale(1)
            cluster.wait_for_workers(1, timeout=60)  # one that comes later may begin with the second task
            results = spread.run(waited_for, [tmp_path, tmp_path / "too late"])
            assert next(results) == (0, None)
            end = threading.Timer(0.5, (tmp_path / "too late").touch)
            end.start()
            cluster.close()
            refused(lambda: next(results), f"dask scheduler at {address!r} was lost", "resume the run")
            end.join()


# --- a network and its data


def masks_of(network, size, seed=0):
    return np.random.default_rng(seed).random((size, network.spec.size)) < 0.6


def cohorts(source, network, folder, count=6, size=3):
    masks = masks_of(network, count * size)
    return [
        (source, [pack(mask) for mask in masks[start : start + size]], str(folder), 0.1)
        for start in range(0, count * size, size)
    ]


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """A network on data made in memory, tasks that train it, and what one process finds."""
    network = initialize("mlp:9,7", tiny)
    tasks = cohorts(Source.of(network, tiny), network, tmp_path_factory.mktemp("alone"))
    return network, tasks, {index: found[0] for index, found in Spread().run(trained, tasks)}


@on(*every(BACKENDS[1:], default=["threads", "loky"]))
def test_every_backend_trains_to_the_same_bits(spread, alone):
    _, tasks, wanted = alone
    found = {index: losses for index, (losses, *_) in spread.run(trained, tasks)}
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[index], wanted[index]) for index in wanted)


@on(*every(PROCESSES, default=["loky"]))
def test_a_process_makes_network_and_data_once(spread, alone):
    _, tasks, _ = alone
    made = {}
    for _ in range(2):
        for _, (_, pid, network, dataset) in spread.run(trained, tasks):
            made.setdefault(pid, set()).add((network, dataset))
    assert len(made) == 2
    assert all(len(objects) == 1 for objects in made.values())


def at_work(folder):
    """The processes that have begun a task and not ended it."""
    return [int(path.name.partition("-")[0]) for path in folder.iterdir() if not path.name.endswith("done")]


@on(*every(PROCESSES, default=["loky"]))
def test_a_killed_worker_has_its_cohort_run_again(spread, alone, tmp_path):
    _, tasks, wanted = alone
    tasks = [(source, masks, str(tmp_path), 0.5) for source, masks, *_ in tasks]
    found, killed = {}, None
    for index, (losses, *_) in spread.run(trained, tasks):
        found[index] = losses
        if killed is None:
            wait_for(lambda: at_work(tmp_path))
            killed = at_work(tmp_path)[0]
            os.kill(killed, signal.SIGKILL)
    assert gone(killed)
    assert sorted(found) == list(range(len(tasks)))
    assert all(np.array_equal(found[index], wanted[index]) for index in wanted)
    assert at_work(tmp_path) == [killed]  # of what it began the mark is all that there is


@pytest.mark.full
@on(*PROCESSES)
def test_a_task_that_no_worker_survives_ends_in_a_line(spread):
    times = "2 workers" if spread.backend == "dask" else "3 workers"
    refused(lambda: list(spread.run(kills_its_process, range(4))), "run again elsewhere", times, "memory")
    assert sorted(spread.run(squared, range(3))) == [(0, 0), (1, 1), (2, 4)]


def test_a_process_of_loky_that_died_idle_is_replaced():
    spread = Spread("loky", 1)
    ((_, pid),) = spread.run(process, [0])
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gone(pid))
    ((_, other),) = spread.run(process, [0])
    assert other != pid


LOADER = """
from ticketsearch import from_arrays
import numpy as np

def load(*, file, seed=0):
    x = np.load(file)
    return from_arrays("mine", x, np.arange(len(x)) % 3, seed=seed)
"""
MODEL = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Sizes:
    hidden: int = 5

class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, Sizes().hidden), nn.Linear(Sizes().hidden, classes)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu())

def build(input_shape, classes):
    return Net(input_shape[0], classes)
"""


def description(network, dataset):
    return network.name, network.spec.signature, dataset.fingerprint, type(network.module).__name__


def check_rebuilt(network, dataset):
    """Check that this process and another make the same of a source, and that it is small; return it."""
    source = Source.of(network, dataset)
    assert len(dumps(source)) < 20_000
    ((_, found),) = Spread("loky", 1).run(loaded, [source])
    assert found == description(network, dataset)
    assert loaded(source) == found
    return source


def test_listed_models_and_named_data_are_sent_by_name(digits):
    source = check_rebuilt(initialize("mlp:8", digits, activation="elu"), digits)
    assert (source.model, source.file, source.origin.name) == ("mlp:8", None, "digits")
    network, dataset = source.load()
    assert dataset is source.load()[1]
    assert network is source.load()[0]
    for name, tensor in initialize("mlp:8", digits, activation="elu").parameters().items():
        assert torch.equal(network.parameters()[name], tensor)


def test_buffers_are_part_of_what_is_compared(digits):
    check_rebuilt(initialize("resnet20", digits, "as_built", depth=8, width=0.2), digits)


def test_files_of_the_users_are_found_from_the_folder_they_were_named_in(tmp_path, monkeypatch):
    (tmp_path / "loader.py").write_text(LOADER)
    (tmp_path / "model.py").write_text(MODEL)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(90, 4)))
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset("loader.py:load", file="x.npy")
    network = initialize("model.py:build", dataset)
    monkeypatch.chdir("/")
    (tmp_path / "model.py").unlink()  # its function is sent whole: the search goes on with what it began with
    assert check_rebuilt(network, dataset).name == "model.py:build"


def test_changed_data_are_refused(tmp_path):
    (tmp_path / "loader.py").write_text(LOADER)
    file = tmp_path / "x.npy"
    np.save(file, np.random.default_rng(2).normal(size=(90, 4)))
    dataset = load_dataset(f"{tmp_path}/loader.py:load", file=str(file))
    source = Source.of(initialize("mlp:8", dataset), dataset)
    np.save(file, np.random.default_rng(1).normal(size=(90, 4)))
    run = Spread("loky", 1).run(loaded, [source])
    refused(lambda: list(run), "data of 'mine' must be the same", "give all machines the same files")
    file.unlink()
    with pytest.raises(FileNotFoundError):
        source.load()


def test_data_made_in_memory_go_through_a_file_that_is_deleted_with_them():
    rng = np.random.default_rng(0)
    dataset = from_arrays("mine", rng.normal(size=(90, 2, 3)), np.arange(90) % 3)
    network = initialize("mlp:8", dataset)
    source = check_rebuilt(network, dataset)
    assert source.origin is None
    assert Source.of(network, dataset).file == source.file
    assert Source.of(network, dataset).key == source.key
    file = Path(source.file)
    assert file.stat().st_size < 6_000
    sources_module._datasets.clear()
    del dataset
    assert not file.exists()
    assert not file.parent.exists()
    refused(source.load, "sees no", source.file, "TMPDIR", "load them by a name")


def test_data_that_share_tensors_or_cannot_be_named_again_go_through_a_file(digits):
    x, y = torch.rand(9, 4).T[:3], torch.arange(3)
    same = Dataset("same", x, y, x, y, x, y, classes=3)
    assert check_rebuilt(initialize("mlp:4", same), same).file
    changed = dataclasses.replace(digits, x_test=torch.zeros_like(digits.x_test))
    assert check_rebuilt(initialize("mlp:4", changed), changed).file
    odd = digits.loaded_from(digits.origin._replace(options={"x": np.zeros(10**6)}))
    assert Source.of(initialize("mlp:4", odd), odd).file


def test_an_importable_factory_is_sent_by_its_place(tiny):
    source = check_rebuilt(initialize(wide, tiny, width=4), tiny)
    assert source.model == (__name__, "wide")
    nowhere = sources_module.Importable("no.such.package", "f")
    other = dataclasses.replace(source, model=nowhere, key="other")
    refused(other.load, "model no.such.package:f cannot be imported", "install its package")


def mlp(input_shape, classes):
    """Has the name of a listed model, and is another."""
    return wide(input_shape, classes, width=3)


def test_a_factory_that_has_the_name_of_a_listed_model_is_not_taken_for_it(tiny):
    assert check_rebuilt(initialize(mlp, tiny), tiny).model == (__name__, "mlp")
    bound = functools.partial(wide, width=5)
    assert check_rebuilt(initialize(bound, tiny), tiny).model is bound


def test_local_functions_are_sent_whole(tiny):
    class Local(nn.Module):
        def __init__(self, inputs, classes):
            super().__init__()
            self.layer = nn.Linear(inputs, classes)

        def forward(self, x):
            return self.layer(x)

    source = check_rebuilt(initialize(lambda shape, classes: Local(shape[0], classes), tiny), tiny)
    assert callable(source.model)


def test_what_cannot_be_sent_or_is_too_large_is_refused(tiny):
    lock, kept = threading.Lock(), nn.Linear(7, 20_000)

    def locked(input_shape, classes):
        with lock:
            return wide(input_shape, classes)

    def heavy(input_shape, classes):
        return nn.Sequential(kept, nn.Linear(20_000, classes))

    refused(lambda: Source.of(initialize(locked, tiny), tiny), "'locked' cannot be sent", "lock", "threads")
    network = initialize(heavy, tiny, "as_built")
    refused(lambda: Source.of(network, tiny), "at most 262,144 bytes", "'heavy'", "file.py:function")
    rootless = dataclasses.replace(network, factory=None)
    refused(lambda: Source.of(rootless, tiny), "without its factory")


def test_a_factory_that_draws_chance_of_its_own_is_refused(tiny):
    def drawn(input_shape, classes):
        module = wide(input_shape, classes)
        nn.init.constant_(module[1].weight, float(np.random.default_rng().random()))
        return module

    source = Source.of(initialize(drawn, tiny, "as_built"), tiny)
    refused(source.load, "model 'drawn' must be the same on every worker", "torch's generator")


def test_workers_with_another_torch_are_refused(tiny, monkeypatch):
    source = Source.of(initialize("mlp:4", tiny), tiny)
    monkeypatch.setattr(torch, "__version__", "1.0.0+cpu")
    refused(source.load, "workers need ticketsearch", f"has {ticketsearch.__version__} and 1.0.0;")


def test_a_process_keeps_only_the_last_networks_and_data(tiny):
    sources = [Source.of(initialize("mlp:4", tiny, seed=seed), tiny) for seed in range(4)]
    networks = [source.load()[0] for source in sources]
    assert len(sources_module._networks) == sources_module.KEPT
    assert sources[3].load()[0] is networks[3]
    assert sources[0].load()[0] is not networks[0]
    assert sources[0].load()[1] is sources[3].load()[1]


def test_a_task_of_many_masks_of_a_large_network_stays_below_a_megabyte(digits):
    network = initialize("lenet_300_100", digits)
    (task,) = cohorts(Source.of(network, digits), network, "/", count=1, size=100)
    assert len(dumps(task)) < 1_000_000


# --- the driver's own end


SCRIPT = """
import os, signal, sys, time
from pathlib import Path

import torch
from torch import nn

from ticketsearch.datasets import Dataset
from ticketsearch.models import initialize
from ticketsearch.workers import Source, Spread


class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.layer = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.layer(x)


def build(input_shape, classes):
    return Net(input_shape[0], classes)


def loaded(source):
    return source.load()[0].name, signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def sleep(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)


if __name__ == "__main__":
    _, what, folder = sys.argv
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run
    if what == "load":
        dataset = Dataset("mine", *(torch.eye(3), torch.arange(3)) * 3, classes=3)
        print(list(Spread("loky", 1).run(loaded, [Source.of(initialize(build, dataset), dataset)])))
    else:
        print("begins", flush=True)
        try:
            list(Spread("loky", int(what)).run(sleep, [folder] * 5))
        except KeyboardInterrupt:
            sys.exit(130)
"""


@contextlib.contextmanager
def started(tmp_path, what):
    """Start the script in a process group of its own, as a terminal does."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "pids").mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, script, what, tmp_path / "pids"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as driver:
        try:
            yield driver
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)


def pids_in(tmp_path):
    return [int(path.name) for path in (tmp_path / "pids").iterdir()]


def workers_of(driver):
    children = psutil.Process(driver.pid).children()
    return [child.pid for child in children if any("popen_loky" in part for part in child.cmdline())]


@pytest.mark.full
def test_functions_of_a_script_are_sent_whole_to_a_process_that_hears_no_ctrl_c(tmp_path):
    with started(tmp_path, "load") as driver:
        assert driver.communicate(timeout=60) == ("[(0, ('build', True))]\n", "")
    assert not list(tmp_path.glob("ticketsearch-*"))  # the data it made in memory


@pytest.mark.parametrize("when", every(["at work", "starting"], default=["at work"]))
@pytest.mark.full
def test_ctrl_c_at_a_terminal_ends_all_processes_quietly(tmp_path, when):
    with started(tmp_path, "2") as driver:
        wait_for(lambda: len(workers_of(driver)) == 2)
        children = workers_of(driver)
        if when == "at work":
            wait_for(lambda: len(pids_in(tmp_path)) == 2)
        os.killpg(driver.pid, signal.SIGINT)
        _, err = driver.communicate(timeout=20)
        assert (driver.returncode, err) == (130, "")
        wait_for(lambda: all(map(gone, children)))


@pytest.mark.full
def test_no_process_outlives_a_driver_that_was_killed(tmp_path):
    with started(tmp_path, "1") as driver:
        wait_for(lambda: pids_in(tmp_path))
        driver.kill()
        driver.wait(20)
        wait_for(lambda: gone(*pids_in(tmp_path)), 10)
