"""Runs the stages of one config: what each depends on, its heading, its artifact."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vidpref.generation import text_encoders
from vidpref.runs.artifacts import Artifact, find_stage, run_stage

# Sections of the config that say what the network computes, and how clips are drawn from it.
NETWORK = ("data", "text", "model", "diffusion", "compute_dtype")
DRAWING = ("sampler", "superres")


class Runner:
    """The finished stages of a config in a work directory.

    Args:
        config: of the run.
        workdir: where the artifacts lie.
        heading: of the n-th stage's line, e.g. "{n}/10".
        only_finished: run no stage, in silence; one that is not done is an error.

    Attributes:
        artifacts: in the order of their use.
    """

    def __init__(self, config: ConfigDict, workdir: Path, heading: str, *, only_finished: bool):
        self.config, self.workdir = config, workdir
        self.artifacts: list[Artifact] = []
        self._heading, self._only_finished = heading, only_finished

    def run(
        self,
        name: str,
        body: Callable[[Path], None],
        fields: Sequence[str],
        inputs: Mapping[str, Artifact] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Returns the artifact of a stage, done now if it was not done before.

        Args:
            name: of the stage.
            body: see `run_stage`.
            fields: sections of the config that it depends on.
            inputs: artifacts that it reads.
            settings: what else it depends on.
        """
        depends = {field: self._chosen(field) for field in fields} | dict(settings or {})
        heading = f"[{self._heading.format(n=len(self.artifacts) + 1)}] {name}"
        if self._only_finished:
            artifact = find_stage(self.workdir, name, settings=depends, inputs=inputs or {})
        else:
            artifact = run_stage(
                self.workdir,
                name,
                body,
                settings=depends,
                inputs=inputs,
                announce=lambda state: say(f"{heading}: {state}"),
            )
        self.artifacts.append(artifact)
        return artifact

    def _chosen(self, field: str) -> Any:
        """A section of the config without what it holds but does not use."""
        section = self.config[field]
        if field == "data":  # to bear more bad clips changes no clip
            return {name: value for name, value in section.items() if name != "max_bad_fraction"}
        # one sub-section for each name that could be chosen
        if field in ("model", "reward", "diffusion"):
            chosen = {
                name: value
                for name, value in section.items()
                if name == section.name or not isinstance(value, ConfigDict)
            }
            chosen.pop("init", None)  # where a pipeline lies; what it holds has a fingerprint
            return chosen
        if field == "text":
            return text_encoders.chosen_fields(section)
        if field == "superres" and not section.enabled:
            return {"enabled": False}
        if field == "align":
            without = {"policy"} if section.train.best_metric else {"policy", "validation"}
            return {name: value for name, value in section.items() if name not in without}
        return section


def say(line: str) -> None:
    """Prints a line of progress, in a pod once."""
    if jax.process_index() == 0:
        print(line, flush=True)
