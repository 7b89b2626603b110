"""What several test files share: small models, studies and pipelines to test with, and a browser."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
# params.yaml and metrics.json of the run that README describes. The tests read these, which no run and no experiment of
# a user changes, in place of params.yaml and results/. After a new reference run:
#     cp params.yaml results/evaluate/metrics.json benchmarks/reference/
REFERENCE = ROOT / "benchmarks/reference"
