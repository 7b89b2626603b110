"""What the project declares: its dependencies, the lock, and conda's environment."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pip._internal.exceptions import RequirementsFileParseError
from pip._internal.network.session import PipSession
from pip._internal.req import parse_requirements
from pip._internal.req.req_file import ParsedRequirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_lock_holds_every_dependency_in_a_version_that_fits() -> None:
    locked: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE):
        locked.setdefault(canonicalize_name(name), []).append(version)
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    for requirement in map(Requirement, declared):
        versions = locked[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def requirements_of(environment: Path) -> list[ParsedRequirement]:
    """The packages that conda's `pip:` list asks for, read by pip as conda hands it over: as a file, with `-r`."""
    parts = yaml.safe_load(environment.read_text())["dependencies"]
    (listed,) = (part["pip"] for part in parts if isinstance(part, dict))
    file = environment.with_name("conda.requirements.txt")
    file.write_text("\n".join(listed))
    return list(parse_requirements(str(file), PipSession()))


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")  # in the pip of Python 3.11
@pytest.mark.filterwarnings("ignore:Creating a LegacyVersion has been deprecated")  # in that of Python 3.11.2
def test_pip_reads_condas_list(tmp_path: Path) -> None:
    environment = tmp_path / "environment.yml"
    shutil.copy(ROOT / "environment.yml", environment)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    found = requirements_of(environment)
    assert any(each.requirement.startswith("torch==") for each in found)
    assert all(each.options and each.options["hashes"] for each in found)  # so pip checks the hashes
    environment.write_text(environment.read_text().replace("- -r requirements.lock", "- --no-deps"))
    with pytest.raises(RequirementsFileParseError, match="no such option: --no-deps"):
        requirements_of(environment)
