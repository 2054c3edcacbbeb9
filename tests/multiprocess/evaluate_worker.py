"""One of the processes that evaluate together: `python evaluate_worker.py RANK PORT PIPELINE OUT`.

PORT 0: alone.
"""

import contextlib
import sys
from pathlib import Path

from tests.two_processes import joined
from vidpref.datasets.prompt_sets import read_prompt_set
from vidpref.runs.compared_models import pipelines
from vidpref.runs.model_evaluation import Evaluation, evaluate, write
from vidpref.runs.named_judges import judge_configs
from vidpref.runs.score_videos import Showing

SMALL = (
    *("sampler.steps=1", "sampler.guidance_scale=1", "sampler.batch_size=4", "text.length=16"),
    *("data.frames=9", "data.height=32", "data.width=32"),
)


def main(folder: str, out: Path) -> None:
    models = pipelines(folder, SMALL, lora="", lora_scale=1.0, tuned="")
    prompts = read_prompt_set(Path(folder).with_name("prompts.txt"))
    judges = judge_configs(["verifier:visual_quality"])
    what = Evaluation(models, prompts, judges, per_prompt=2, seed=0)
    out.mkdir(exist_ok=True)
    judged = evaluate(what, out, Showing(frames=8, batch_size=2))
    write(what, judged, out, shown=2, command="test")


if __name__ == "__main__":
    rank, port, pipeline, out = sys.argv[1:]
    with joined(int(rank), int(port)) if int(port) else contextlib.nullcontext():
        main(pipeline, Path(out))
