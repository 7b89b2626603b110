"""The pipeline's stages, each run by DVC as `python -m stages.<name>` in the folder that holds them.

The code that runs is that of this folder: DVC also runs a stage in a copy of the repository (`dvc exp run --queue`
and `--temp`), where an installed package would still be the original's.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
