"""A dataset loader: a folder with one .npy file per class, each (n, *input).

use = "class_arrays.folder"    args = { path = "holdout/" }
"""

from pathlib import Path

import numpy as np

from dlaudit import ArrayDataset, Dataset


def folder(path: str, *, root: Path) -> Dataset:
    """Folder with one .npy file per class; the file's name is the name of the class."""
    files = sorted((root / path).glob("*.npy"))
    if not files:
        message = f"{path}: expected one .npy file per class, found none"
        raise FileNotFoundError(message)
    arrays = [np.load(file, allow_pickle=False).astype("float32") for file in files]
    sizes = [len(array) for array in arrays]
    ids = [f"{file.stem}/{row}" for file, n in zip(files, sizes, strict=True) for row in range(n)]
    return ArrayDataset(
        np.concatenate(arrays),
        np.repeat(np.arange(len(files)), sizes),
        id=np.array(ids),
        name=Path(path).name,
        classes=tuple(file.stem for file in files),
    )
