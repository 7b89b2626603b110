"""The real `dvc repro` on real digits, in a copy of the repository."""

import json
import threading
from pathlib import Path

import numpy as np
import pandas
import pytest
from helpers import torchserve
from helpers.pen_digits import encode
from helpers.small_model import HANDLERS
from helpers.small_pipeline import run, would_run

from mnist_pipeline.data.dataset import load_test
from mnist_pipeline.serving.archived import open_archive
from mnist_pipeline.serving.recognition import DOUBT, score_known


def test_it_leaves_what_it_should(repository: Path) -> None:
    metrics = json.loads((repository / "results/evaluate/metrics.json").read_text())
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    assert metrics["accuracy"] > 0.5
    info = json.loads((repository / "saved_models/model_info.json").read_text())
    assert next(iter(metrics.items())) == ("validation_accuracy", info["validation_accuracy"])
    (weights,) = (repository / "saved_models").glob("*.pth")
    assert info["weights"] == weights.name
    assert info["hyperparameters"]["lr"]["source"] == "tune"
    tracked = run(repository, "git", "ls-files", "--others", "--exclude-standard").split()
    assert not [name for name in tracked if name.startswith(("data/", "saved_models/", "model_store/", "db.sqlite3"))]


def test_the_server_answers_what_was_evaluated(repository: Path) -> None:
    expected = pandas.read_csv(repository / "results/evaluate/predictions.csv")
    test = load_test(repository / "data")
    assert expected["label"].tolist() == test.labels.tolist()
    with torchserve.running(repository / "model_store/mnist.mar", HANDLERS) as running:
        answers = [running.service.predict(encode(np.asarray(image[0]))).json() for image in test.images[:200]]
    with open_archive(repository / "model_store/mnist.mar") as (model, _):
        known = score_known(model.logits(test.images[:200].numpy()), model.info)
    assert (known >= DOUBT).sum() > 50
    # What is in doubt is read in other ways as well, so only the others are what the network makes of the image itself.
    sure = [k for k in range(200) if known[k] >= DOUBT]
    served = np.array([answers[k]["probabilities"] for k in sure])
    assert np.abs(served - expected.iloc[sure, 1:].to_numpy()).max() < 1e-3


def test_only_what_depends_on_an_edit_runs_again(repository: Path) -> None:
    """An edited parameter; for edited code, tests/unit/test_structure.py shows it."""
    assert would_run(repository) == []
    params = repository / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("epochs: 0.6", "epochs: 0.7"))
    again = would_run(repository)
    params.write_text(before)
    assert again == ["train"]  # a dry run does not know yet that the model, which the later stages need, will change


@pytest.mark.extras
@pytest.mark.filterwarnings("default")  # moto's and botocore's are their own
def test_a_colleague_pulls_the_model_from_a_bucket_and_serves_it(repository: Path, tmp_path: Path) -> None:
    import boto3
    import moto.server
    from werkzeug.serving import make_server

    bucket_store = moto.server.DomainDispatcherApplication(moto.server.create_backend_app)
    server = make_server("127.0.0.1", 0, bucket_store, threaded=True)
    threading.Thread(target=server.serve_forever).start()
    url = f"http://127.0.0.1:{server.port}"
    keys = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    session = boto3.Session("someone", "secret", region_name="us-east-1")
    session.resource("s3", endpoint_url=url).create_bucket(Bucket="models")
    try:
        run(repository, "dvc", "remote", "add", "--default", "--force", "team", "s3://models/mnist")
        run(repository, "dvc", "remote", "modify", "team", "endpointurl", url)
        run(repository, "git", "add", "--all")
        run(repository, "git", "commit", "--quiet", "--message", "A remote")
        run(repository, "dvc", "push", environment=keys)

        colleague = tmp_path / "colleague"
        run(tmp_path, "git", "clone", "--quiet", str(repository), str(colleague))
        run(colleague, "dvc", "pull", environment=keys)
        assert would_run(colleague) == []
        archived = colleague / "model_store/mnist.mar"
        assert archived.read_bytes() == (repository / "model_store/mnist.mar").read_bytes()
        with torchserve.running(archived, HANDLERS) as running:
            assert running.service.predict((HANDLERS / "digits/7.png").read_bytes()).status_code == 200
    finally:
        server.shutdown()
