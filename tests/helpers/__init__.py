"""What several test files share: small models, studies and pipelines to test with, and a browser."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
