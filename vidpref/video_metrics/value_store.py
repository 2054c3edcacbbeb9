"""Values of clips by their content, each in a file of its own: nothing is measured twice."""

import hashlib
import json
from pathlib import Path

import numpy as np

from vidpref.files import whole_file, write_text
from vidpref.video_metrics.measure import Measure


class ValueStore:
    """The values of one measure.

    Several processes may write; a file that was moved or copied is known.

    Args:
        folder: folder of all measures.
        measure: the measure; values belong to its causes.
    """

    def __init__(self, folder: Path, measure: Measure):
        causes = json.dumps(measure.causes, sort_keys=True)
        digits = hashlib.sha256(causes.encode()).hexdigest()[:12]
        self._of_prompt = measure.of_prompt
        self._folder = folder / f"{measure.name}-{digits}"
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(self._folder / "measure.json", causes + "\n")

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def key(self, content: str, prompt: str) -> str:
        """Returns the key of a clip.

        Args:
            content: digest of its file.
            prompt: its prompt, which counts where values depend on it.
        """
        told = json.dumps([content, prompt if self._of_prompt else ""])
        return hashlib.sha256(told.encode()).hexdigest()

    def put(self, key: str, values: np.ndarray) -> None:
        """Keeps values."""
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, np.asarray(values))

    def get(self, key: str) -> np.ndarray:
        """Returns values.

        Raises:
            ValueError: there are none here, or the file is damaged.
        """
        path = self._path(key)
        if not path.is_file():
            raise ValueError(
                f"{path} was written by another process and is not to be seen here: --cache must "
                "be on a file system that all hosts share"
            )
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path} is damaged, remove it: {error}") from error

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.npy"
