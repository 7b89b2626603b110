"""The environment that the tests and their processes run in: nothing that a user has exported or configured decides."""

import os
import re
from collections.abc import Mapping

# What changes how this project, git, DVC, Python, make, Java, the servers or the clouds' clients behave, or in which
# language, width and colours they write. What is needed to find programs, certificates, proxies and folders is kept.
DROPPED = re.compile(
    r"MNIST_(?!TEST_)|GIT_(?!SSL_)|DVC_(?!SITE_CACHE_DIR)|PYTHON(?!PATH|HOME|DONTWRITEBYTECODE|PYCACHEPREFIX)"
    r"|TS_|LOG_LOCATION|METRICS_LOCATION|TEMP$|JAVA_|_JAVA_|JDK_JAVA_|OMP_|OPTUNA_|RAY_|AWS_(?!CA_BUNDLE)"
    r"|UVICORN_|WEB_CONCURRENCY|FORWARDED_ALLOW_IPS|MAKE|MFLAGS|GNUMAKEFLAGS|PORT$|BASELINE$|ONLY$|PICTURES$"
    r"|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|CLICOLOR|TZ$|LC_|LANG|BASH_ENV|CDPATH|KUBERNETES_"
)
NOWHERE = "/nonexistent"
SET = {
    "LC_ALL": "C.UTF-8",  # git and bash write English
    "GIT_CONFIG_GLOBAL": os.devnull,  # no identity, hooks or signatures of the user's
    "GIT_CONFIG_NOSYSTEM": "1",
    # The checkout may belong to another user than the one who runs the tests.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "DVC_GLOBAL_CONFIG_DIR": NOWHERE,  # no remote or cache of the user's
    "DVC_SYSTEM_CONFIG_DIR": NOWHERE,
}
LOOPBACK = "127.0.0.1,localhost,::1"  # no proxy leads there


def neutral(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would decide a test, and with what makes git and DVC the same for everybody."""
    kept = {name: value for name, value in environment.items() if not DROPPED.match(name)}
    direct = {name: ",".join(filter(None, (kept.get(name), LOOPBACK))) for name in ("no_proxy", "NO_PROXY")}
    return kept | SET | direct
