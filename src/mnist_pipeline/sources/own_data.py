"""Read the user's own images: a folder of pictures per class, a CSV file, an .npz file or four IDX files."""

from pathlib import Path

from mnist_pipeline.data.dataset import FILES, DataError
from mnist_pipeline.folders import visible
from mnist_pipeline.sources.forms import Wanted
from mnist_pipeline.sources.own_arrays import number_classes, read_csv, read_idx_files, read_npz
from mnist_pipeline.sources.own_classes import OwnData
from mnist_pipeline.sources.own_images import read_class_folders


def read_own(source: Path, wanted: Wanted | None = None, skip_damaged: bool = False) -> OwnData:
    """Read the user's own images; where no test images are given, TEST_PART of each class becomes the test.

    The source is a folder with one sub-folder of images per class, or with train/ and test/ that hold such; a CSV file
    (`read_csv`) or a folder with train.csv; an .npz file (`read_npz`) or a folder with mnist.npz; or a folder with four
    IDX files (`read_idx_files`). `skip_damaged` leaves out image files that cannot be read. Raises DataError.
    """
    wanted = wanted or Wanted()
    if not source.exists():
        raise DataError(f"data.source = {source} does not exist")
    if source.is_dir():
        names = {path.name for path in visible(source)}
        if names & {name + end for name in FILES for end in ("", ".gz")}:
            return number_classes(source, *read_idx_files(source), wanted)
        if not any(path.is_dir() for path in visible(source)):
            source /= next((name for name in ("train.csv", "mnist.npz") if name in names), "")
    if source.is_dir():
        return read_class_folders(source, wanted, skip_damaged)
    if source.suffix.lower() == ".csv":
        return number_classes(source, read_csv(source), None, wanted)
    if source.suffix.lower() == ".npz":
        return number_classes(source, *read_npz(source), wanted)
    raise DataError(f"data.source = {source} is a file of another kind; it is a folder, a .csv file or an .npz file")
