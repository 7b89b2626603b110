# `make help` lists every command.
SHELL := /bin/bash
PYTHON ?=
PORT ?= 8080
# What a person gives reaches the recipes' shell as variables of its environment, in which no character has a meaning:
# not a space, a quote or a $. `value` keeps make itself from reading $x as a variable. Only a blank at the beginning of
# a name is lost, which make takes away.
$(foreach name,PYTHON PORT BASELINE ONLY PICTURES,$(eval override $(name) := $$(value $(name))))
export PYTHON PORT BASELINE ONLY PICTURES
ACTIVATE := source .venv/bin/activate
.DEFAULT_GOAL := help

help: ## every command, a line each
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: ## the environment alone, in .venv (PYTHON=python3.12 chooses another Python)
	@scripts/setup.sh

extras: ## what few need: Ray and PostgreSQL's client, and S3
	@scripts/setup.sh extras

repro: setup ## the whole pipeline: download, tune, train, archive, evaluate
	$(ACTIVATE) && python scripts/owned_folders.py && dvc repro
	@scripts/suggest_commit.sh

undo: setup ## after an experiment: params.yaml, results and the model as the last commit has them
	$(ACTIVATE) && python scripts/undo.py

test: setup ## every test but those of the extras
	$(ACTIVATE) && pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not extras"

test-fast: setup ## the quick tests, less than a minute in all: no pipeline, no server, no browser
	$(ACTIVATE) && pytest --numprocesses 2 --dist loadfile -m "not slow and not extras"

test-extras: extras ## the tests of several machines, a shared bucket, Fashion-MNIST, and roll-outs under load
	$(ACTIVATE) && pytest -m extras

bench-train: setup ## training speed: the usual PyTorch loop and this project, in turn
	$(ACTIVATE) && dvc repro --quiet download && python benchmarks/bench_train.py

bench-accuracy: setup ## seconds of training to 99.28 % on the test images, three seeds
	$(ACTIVATE) && dvc repro --quiet download && python benchmarks/bench_accuracy.py target

bench-default: setup ## accuracy of the default recipe, three seeds
	$(ACTIVATE) && dvc repro --quiet tune && python benchmarks/bench_accuracy.py default

bench-long: setup ## accuracy of the recipe for those with more time, two seeds
	$(ACTIVATE) && dvc repro --quiet download && python benchmarks/bench_accuracy.py long --seeds 2

bench-serve: setup ## serving speed against FastAPI, a stock TorchServe, LitServe and Ray Serve (wants wrk)
	$(ACTIVATE) && PYTHONPATH=tests python benchmarks/bench_serve.py

bench-hostile: setup ## how long plain pictures wait beside requests that are made to hurt the FastAPI server
	$(ACTIVATE) && PYTHONPATH=tests python benchmarks/bench_hostile.py

bench-pictures: setup ## drawn photographs and numbers: how many are read; letters and garments: answered
	$(ACTIVATE) && python benchmarks/bench_pictures.py

bench-tuning: setup ## what tuning is worth: models with the default values, with what a study found, with random values
	$(ACTIVATE) && PYTHONPATH=. python benchmarks/bench_tuning.py

bench-workers: extras ## what it costs to coordinate 1 to 16 workers of a study
	$(ACTIVATE) && python benchmarks/bench_workers.py

bench-soak: setup ## ten minutes of full load on both servers: no error, no growing memory
	$(ACTIVATE) && PYTHONPATH=tests python benchmarks/soak.py

figures: setup ## docs/results.md from the benchmarks' results (ONLY="train serve" runs these first)
	$(ACTIVATE) && set -o noglob && python benchmarks/figures.py $$ONLY

rollout: setup ## replace the model that a running TorchServe serves, without downtime
	$(ACTIVATE) && python -m mnist_pipeline.serving.rollout

serve: setup ## the model under FastAPI, with a page to draw digits on (PORT=8001 takes another port)
	$(ACTIVATE) && exec python -m mnist_pipeline.serve --port "$$PORT"

table: setup ## the last commit's experiments, averaged over seeds, compared with it (BASELINE=NAME: with NAME)
	$(ACTIVATE) && python -m mnist_pipeline.evaluation.experiments --baseline "$$BASELINE"

requeue: setup ## queue again what failed or was killed, with its settings, and start DVC's queue
	$(ACTIVATE) && python scripts/requeue.py

score: setup ## how well the model reads a folder of your own pictures (PICTURES=folder; names like 7_kitchen.jpg)
	$(ACTIVATE) && python -m mnist_pipeline.evaluation.score -- "$${PICTURES:?is missing: make score PICTURES=folder}"

report: setup ## results/report.html: one file about the model in saved_models/
	$(ACTIVATE) && python -m mnist_pipeline.evaluation.report

lint: setup ## ruff (lint and format), mypy, deptry
	$(ACTIVATE) && ruff check . && ruff format --check . && mypy && deptry src stages handlers

clean: ## remove the environment, results of tests and caches; models, data and studies stay
	rm -rf .venv tmp/peers .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup extras repro undo test test-fast test-extras bench-train bench-accuracy bench-default bench-long \
	bench-serve bench-hostile bench-pictures bench-tuning bench-workers bench-soak figures rollout serve table requeue \
	score report lint clean
