"""Every flag of every program has an effect or is refused, and nonsense is refused by name."""

import pytest

from tests.launch.programs import PROGRAMS, Launcher
from vidpref.config.schema import FIELDS
from vidpref.files import write_text

MINI = "--config=dpo_aif:mini"
DRAW = ("--model=m", "--prompt=a")
RUN = ("--workdir=w", "--prompt=a")
ASK = ("--videos=folder", "--prompt=a")
SCORE = ("--judge=verifier", "--videos=.", "--out=o.csv")
COMPARE = ("--model=m", "--lora=l", "--prompts=p.mp4", "--judges=verifier", "--out=o")
MEASURE = ("--pairs=p.csv", "--scores=s.csv", "--out=o")
CLIPS = ("--videos=folder", "--out=o")
PEOPLE = ("--truth=people.csv", "--scores=s.csv", "--out=o")

# program -> flag -> (arguments, what the refusal says); every flag is here.
REFUSED = {
    "tpu_run": {
        "config": [
            ((), "--config=NAME[:SCALE] is missing"),
            (("--list", MINI), "--config does nothing beside --list"),
            (("--prune", "--workdir=w", MINI), "--config does nothing beside --prune"),
            (("--list", "--config.align.beta=3"), "--config.align.beta does nothing beside --list"),
        ],
        "workdir": [
            ((MINI,), "--workdir=FOLDER is missing"),
            (("--list", "--workdir=w"), "--workdir does nothing beside --list"),
        ],
        "list": [(("--list", MINI, "--show"), "--list and --show: give one of them")],
        "show": [((MINI, "--show", "--describe"), "--show and --describe: give one of them")],
        "describe": [
            ((MINI, "--describe=alingn"), "no such section; did you mean align"),
            ((MINI, "--describe="), "--describe is empty"),
        ],
        "dry_run": [((MINI, "--dry_run", "--prune"), "--dry_run and --prune: give one of them")],
        "prune": [(("--prune",), "--workdir=FOLDER is missing")],
        "yes": [((MINI, "--workdir=w", "--yes"), "--yes goes with --prune")],
    },
    "train_judge": {
        "config": [
            (("--workdir=w",), "--config=NAME[:SCALE] is missing"),
            (("--config=videorewart", "--workdir=w"), "no config named 'videorewart'"),
        ],
        "workdir": [(("--config=videoreward",), "--workdir=FOLDER is missing")],
        "show": [(("--show",), "--config=NAME[:SCALE] is missing")],
        "dry_run": [(("--config=videoreward", "--dry_run"), "--workdir=FOLDER is missing")],
    },
    "compare": {
        "configs": [
            (("--workdir=w",), "--configs=NAME,NAME,... is missing"),
            (("--configs=dpo_aiff", "--workdir=w"), "did you mean dpo_aif"),
        ],
        "scale": [(("--configs=dpo_aif", "--scale=mni", "--workdir=w"), "did you mean mini")],
        "seeds": [(("--seeds=0",), "--seeds")],
        "rounds": [
            (("--rounds=-1",), "--rounds"),
            (("--config.rounds=3",), "--config.rounds does nothing here: give --rounds"),
        ],
        "workdir": [(("--configs=dpo_aif",), "--workdir=FOLDER is missing")],
    },
    "manifest": {
        "config": [
            (("--topology=v5e:4x8",), "--config=NAME[:SCALE] is missing"),
            (("--config=dpo_aiff",), "did you mean dpo_aif"),
            ((MINI, "--config.aling.beta=3"), "did you mean align.beta"),
        ],
        "topology": [
            ((MINI,), "--topology=v5e:4x8 is missing"),
            ((MINI, "--topology=v5e:3x3"), "--topology=v5e:3x3: v5e has 1x1, 2x2"),
        ],
        "image": [((MINI,), "--image=IMAGE is missing")],
        "claim": [
            ((MINI, "--workdir=/shared/w"), "--claim=NAME is missing: --workdir=/shared/w lies"),
            (
                (MINI, "--workdir=gs://b/w", "--config.data.pairs=/shared/p.csv"),
                "--claim=NAME is missing: --config.data.pairs=/shared/p.csv lies",
            ),
        ],
        "workdir": [
            ((MINI,), "--workdir=FOLDER is missing"),
            ((MINI, "--workdir=/tmp/w"), "--workdir=/tmp/w is not on the file system"),
        ],
        "mount": [((MINI, "--mount=shared"), "--mount=shared: give an absolute path")],
        "name": [((MINI, "--name=Dpo"), "--name=Dpo: small letters")],
        "queue": [((MINI, "--queue="), "--queue is empty")],
        "secret": [((MINI, "--secret="), "--secret is empty")],
        "max_restarts": [((MINI, "--max_restarts=-1"), "--max_restarts")],
        "grace_seconds": [((MINI, "--grace_seconds=0"), "--grace_seconds")],
    },
    "plan_pod": {
        "config": [
            ((), "--config=NAME[:SCALE] is missing"),
            (("--config=dpo_aiff",), "did you mean dpo_aif"),
        ],
        "topology": [
            ((MINI, "--topology=v5e:3x3"), "v5e:3x3"),
            ((MINI, "--topology=v3:8x8:2"), "several slices, of v5e, v5p, v6e, tpu7x"),
        ],
        "sweep": [
            ((MINI, "--topology=v5e:2x4", "--sweep=v5e:2x4"), "--sweep and --topology: give one"),
            ((MINI, "--sweep=v5e:3x3"), "v5e:3x3"),
        ],
        "out": [
            ((MINI, "--out="), "--out is empty"),
            ((MINI, "--topology=v5e:2x4", "--out=x.png"), "--out goes with --sweep"),
        ],
        "json": [
            ((MINI, "--json="), "--json is empty"),
            ((MINI, "--json=plan.json"), "--json goes with --topology or --sweep"),
        ],
        "price": [
            ((MINI, "--price=-1"), "--price"),
            ((MINI, "--price=2"), "--price goes with --topology or --sweep"),
        ],
        "prompts": [((MINI, "--prompts=0"), "--prompts")],
        "programs": [((MINI, "--programs=align,,sample"), "--programs=align,,sample: a name is")],
        "effort": [((MINI, "--effort=2"), "--effort")],
        "tries": [((MINI, "--tries=-1"), "--tries")],
    },
    "export_torch": {
        "workdir": [(("--out=o",), "--workdir=FOLDER is missing")],
        "out": [(("--workdir=w",), "--out=FOLDER is missing")],
        "format": [(("--format=",), "--format is empty")],
        "policy": [(("--policy=",), "--policy is empty")],
        "dtype": [(("--workdir=w", "--out=o", "--dtype=fp16"), "--dtype=fp16: known are float32")],
    },
    "clips": {
        "workdir": [((), "--workdir=FOLDER is missing")],
        "set": [(("--workdir=.", "--set="), "--set is empty")],
        "policy": [(("--workdir=.", "--policy="), "--policy is empty")],
        "split": [(("--workdir=.", "--split="), "--split is empty")],
        "prompt": [(("--workdir=.", "--prompt= "), "--prompt is empty")],
        "accepted": [(("--accepted=maybe",), "accepted")],
        "limit": [(("--workdir=.", "--limit=0"), "--limit=0")],
        "out": [(("--workdir=.", "--out=clip/"), "--out=clip is a file")],
    },
    "annotate": {
        "workdir": [
            ((), "give either --workdir=FOLDER or --videos=FOLDER,FOLDER"),
            (("--workdir=w", "--videos=v"), "give either --workdir=FOLDER or --videos"),
            (("--workdir=w",), "w is no folder"),
            (("--workdir=gs://b/run",), "is a bucket: give a folder here as --out"),
            (("--workdir=.", "--config.seed=1"), "--config.seed does nothing here"),
        ],
        "set": [((ASK[0], "--set=train"), "--set goes with --workdir")],
        "policies": [
            ((ASK[0], "--policies=a"), "--policies goes with --workdir"),
            (("--workdir=w", "--policies=a,"), "--policies: a name is empty"),
        ],
        "split": [((ASK[0], "--split=test"), "--split goes with --workdir")],
        "videos": [
            (("--videos=nowhere",), "nowhere: no such file or folder"),
            (("--videos=folder",), "folder: a folder of videos needs prompts"),
            ((*ASK[1:], "--videos=folder,folder"), "a folder is named twice"),
            (ASK, "no video in it"),
            (("--videos=latin",), "latin: wanted a file that ends in one of .csv"),
        ],
        "prompts": [
            ((*ASK, "--prompts=p"), "give either --prompts or --prompt"),
            (("--workdir=w", "--prompts=p"), "--prompts goes with --videos"),
        ],
        "prompt": [(("--workdir=w", "--prompt=p"), "--prompt goes with --videos")],
        "grade": [(("--out=o", "--export", "--grade"), "--grade does nothing beside --export")],
        "dimensions": [
            ((*ASK, "--dimensions=a,"), "--dimensions: a name is empty"),
            ((*ASK, "--dimensions=a, a"), "--dimensions: a name stands twice"),
        ],
        "limit": [((*ASK, "--limit=-1"), "--limit")],
        "votes": [((*ASK, "--votes=-1"), "--votes")],
        "checks": [
            ((*ASK, "--checks=0.6"), "--checks"),
            ((*ASK, "--checks=nan"), "--checks=nan: give a finite number"),
        ],
        "seed": [((*ASK, "--seed=-1"), "--seed")],
        "aggregate": [((*ASK, "--aggregate=mean"), "--aggregate")],
        "out": [
            (("--export",), "--out=FOLDER, that of the answers, is missing"),
            ((*ASK, "--out=latin"), "--out=latin is a file"),
        ],
        "port": [((*ASK, "--port=70000"), "--port")],
        "export": [(("--export", "--out=folder"), "annotations.journal: no such file; nobody")],
    },
    "score": {
        "judge": [
            (("--videos=.", "--prompt=a", "--out=o.csv"), "--judge=NAME or FOLDER is missing"),
            ((*SCORE, "--judge=verifyer"), "did you mean verifier"),
            ((*SCORE, "--config.align.beta=3"), "--config.align.beta does nothing where clips are"),
        ],
        "videos": [
            (("--judge=verifier", "--out=o.csv"), "--videos=FOLDER or LIST is missing"),
            ((*SCORE[::2], "--videos=nowhere"), "nowhere: no such file or folder"),
            ((*SCORE[::2], "--videos=latin"), "latin: wanted a file that ends in one of .csv"),
        ],
        "prompts": [
            ((*SCORE, "--prompt=a", "--prompts=p"), "give either --prompts or --prompt"),
            ((*SCORE, "--prompts=latin"), "latin, line 1: not UTF-8"),
            ((*SCORE[::2], "--videos=x.csv", "--prompts=p"), "--prompts goes with a folder"),
        ],
        "prompt": [
            (SCORE, "a folder of videos needs prompts"),
            ((*SCORE[::2], "--videos=x.csv", "--prompt=p"), "--prompt goes with a folder"),
        ],
        "root": [((*SCORE, "--prompt=a", "--root=r"), "--root goes with a list of clips")],
        "out": [
            (SCORE[:2], "--out=TABLE is missing"),
            ((*SCORE, "--prompt=a", "--out=o.txt"), "--out=o.txt: wanted a file that ends in .par"),
            ((*SCORE, "--prompt=a", "--out=latin/o.csv"), "latin is no folder"),
        ],
        "cache": [((*SCORE, "--cache="), "--cache is empty")],
        "dimensions": [
            ((*SCORE, "--dimensions=a,"), "--dimensions: a name is empty"),
            ((*SCORE, "--dimensions=accept", "--config.reward.dimension=a"), "given twice"),
        ],
        "num_frames": [((*SCORE, "--num_frames=-1"), "--num_frames")],
        "batch_size": [((*SCORE, "--batch_size=0"), "--batch_size")],
    },
    "evaluate": {
        "model": [
            (COMPARE[1:], "give either --model=FOLDER or --workdir=FOLDER"),
            ((*COMPARE, "--workdir=w"), "give either --model=FOLDER or --workdir=FOLDER"),
            ((*COMPARE, "--config.align.beta=2"), "--config.align.beta does nothing where clips"),
            ((*COMPARE, "--config.model.init=m"), "--config.model.init: give --model"),
        ],
        "lora": [
            ((COMPARE[0], *COMPARE[2:]), "give --lora=FILE or --tuned=FOLDER"),
            (("--workdir=w", *COMPARE[1:]), "--lora goes with --model"),
        ],
        "lora_scale": [
            ((COMPARE[0], *COMPARE[2:], "--tuned=t", "--lora_scale=2"), "--lora_scale goes with"),
            ((*COMPARE, "--lora_scale=nan"), "--lora_scale=nan: give a finite number"),
        ],
        "tuned": [(("--workdir=w", *COMPARE[2:], "--tuned=t"), "--tuned goes with --model")],
        "workdir": [
            (("--workdir=w", *COMPARE[2:], "--config.sampler.steps=2"), "steps goes with --model"),
        ],
        "policy": [((*COMPARE, "--policy=p"), "--policy goes with --workdir")],
        "prompts": [
            ((*COMPARE[:2], *COMPARE[3:]), "--prompts=NAME or FILE is missing"),
            ((*COMPARE, "--prompts=ta_hrd"), "no set of this name; the sets are aif, aif_train"),
            ((*COMPARE, "--prompts=latin"), "latin, line 1: not UTF-8"),
            ((*COMPARE, "--prompts=empty"), "empty: no prompt"),
        ],
        "limit": [((*COMPARE, "--limit=-1"), "--limit")],
        "per_prompt": [((*COMPARE, "--per_prompt=0"), "--per_prompt")],
        "seed": [((*COMPARE, "--seed=-1"), "--seed")],
        "judges": [
            ((*COMPARE[:3], COMPARE[4]), "--judges=JUDGE,JUDGE is missing"),
            ((*COMPARE, "--judges=verifyer"), "did you mean verifier"),
            ((*COMPARE, "--judges=verifier,"), "--judges: a name is empty"),
            ((*COMPARE, "--judges=verifier:accept+"), "write JUDGE or JUDGE:DIMENSION+DIMENSION"),
            ((*COMPARE, "--judges=verifier:acept"), "no dimension 'acept'; did you mean"),
            (
                (*COMPARE, "--config.reward.remote_judge.model=x"),
                "--config.reward.remote_judge.model: none of the judges has this name",
            ),
        ],
        "num_frames": [((*COMPARE, "--num_frames=-1"), "--num_frames")],
        "batch_size": [((*COMPARE, "--batch_size=0"), "--batch_size")],
        "shown": [((*COMPARE, "--shown=-1"), "--shown")],
        "out": [
            (COMPARE[:4], "--out=FOLDER is missing"),
            ((*COMPARE, "--out=latin"), "--out=latin is a file"),
        ],
    },
    "measure": {
        "videos": [
            (CLIPS[1:], "--videos=FOLDER is missing"),
            ((*CLIPS, "--videos=folder,"), "--videos: a name is empty"),
            ((*CLIPS, "--videos=folder,folder"), "--videos: folder stands twice"),
            ((*CLIPS, "--videos=nowhere"), "nowhere: no such file or folder"),
            (CLIPS, "folder: no video in it (.avi"),
            ((*CLIPS, "--videos=s3://b/v"), "--videos=s3://b/v: "),
            ((*CLIPS, "--config.align.beta=3"), "--config.align.beta does nothing here"),
        ],
        "reference": [
            ((*CLIPS, "--reference=folder"), "--reference does nothing: no distance is measured"),
            ((*CLIPS, "--metrics=fid", "--inception=i"), "--reference=FOLDER is missing: fid is a"),
        ],
        "metrics": [
            ((*CLIPS, "--metrics=fidd"), "--metrics: no metric 'fidd'; did you mean fid or"),
            ((*CLIPS, "--metrics=is,is", "--inception=i"), "is stands twice"),
            ((*CLIPS, "--metrics=is,"), "--metrics: a name is empty"),
        ],
        "out": [
            (CLIPS[:1], "--out=FOLDER is missing"),
            ((*CLIPS, "--out=latin"), "--out=latin is a file: give a folder"),
        ],
        "cache": [((*CLIPS, "--cache="), "--cache is empty")],
        "prompts": [
            ((*CLIPS, "--videos=a,b", "--prompts=p"), "--prompts goes with one folder of --videos"),
            ((*CLIPS, "--videos=x.csv", "--prompts=p"), "--prompts goes with a folder: a list"),
            ((*CLIPS, "--videos=.", "--prompts=latin"), "latin, line 1: not UTF-8"),
        ],
        "named_by_prompts": [
            ((*CLIPS, "--prompts=p", "--named_by_prompts"), "either --prompts or --named_by_promp"),
        ],
        "vbench_results": [
            ((*CLIPS, "--videos=a,b", "--vbench_results=v"), "--vbench_results goes with one"),
            ((*CLIPS, "--vbench_results=nowhere"), "nowhere"),
        ],
        **{
            place: [((*CLIPS, f"--metrics={metric}"), f"{metric} needs weights: give --{place}")]
            for place, metric in (
                ("videomae", "fvd_videomae"),
                ("i3d", "fvd_i3d"),
                ("inception", "is"),
                ("clip", "clip_score"),
                ("clip_b32", "background_consistency"),
                ("clip_l14", "aesthetic_quality"),
                ("aesthetic_head", "aesthetic_quality"),
                ("dino", "subject_consistency"),
                ("raft", "dynamic_degree"),
                ("musiq", "imaging_quality"),
                ("amt", "motion_smoothness"),
            )
        },
        "fvd_frames": [((*CLIPS, "--fvd_frames=8"), "--fvd_frames")],
        "fvd_stride": [((*CLIPS, "--fvd_stride=0"), "--fvd_stride")],
        "i3d_epsilon": [((*CLIPS, "--i3d_epsilon=0"), "--i3d_epsilon=0: give a number above 0")],
        "image_frames": [((*CLIPS, "--image_frames=-1"), "--image_frames")],
        "clip_frames": [((*CLIPS, "--clip_frames=-1"), "--clip_frames")],
        "is_splits": [((*CLIPS, "--is_splits=0"), "--is_splits")],
        "batch_size": [((*CLIPS, "--batch_size=0"), "--batch_size")],
    },
    "evaluate_judge": {
        "pairs": [
            (("--scores=s.csv", "--out=o"), "--pairs=FILE is missing"),
            ((*MEASURE, "--pairs=nowhere.csv"), "nowhere.csv: no such file"),
        ],
        "layout": [((*MEASURE, "--layout=genai"), "did you mean genai_bench")],
        "root": [((*MEASURE, "--root="), "--root is empty")],
        "scores": [(MEASURE[::2], "give either --scores=TABLE or --judge=NAME")],
        "judge": [
            ((*MEASURE, "--judge=verifier"), "give either --scores=TABLE or --judge=NAME"),
            ((*MEASURE, "--config.reward.dimension=a"), "--config.reward.dimension goes with --j"),
        ],
        "cache": [((*MEASURE, "--cache=c"), "--cache goes with --judge")],
        "dimensions": [((*MEASURE, "--dimensions=a"), "--dimensions goes with --judge")],
        "num_frames": [((*MEASURE, "--num_frames=8"), "--num_frames goes with --judge")],
        "batch_size": [((*MEASURE, "--batch_size=2"), "--batch_size goes with --judge")],
        "match": [
            ((*MEASURE, "--match=overall"), "--match=overall: write VOTED=SCORED"),
            ((*MEASURE, "--match=a=b+"), "--match=a=b+: write VOTED=SCORED"),
        ],
        "both_bad": [((*MEASURE, "--both_bad=lose"), "--both_bad")],
        "partial": [
            ((*MEASURE[::2], "--judge=verifier", "--partial"), "--partial goes with --scores")
        ],
        "out": [
            (MEASURE[:2], "--out=FOLDER is missing"),
            ((*MEASURE, "--out=latin"), "--out=latin is a file"),
        ],
    },
    "correlate": {
        "truth": [
            (PEOPLE[1:], "--truth=FILE is missing"),
            ((*PEOPLE, "--truth=nowhere.csv"), "nowhere.csv: no such file"),
            ((*PEOPLE, "--truth=folder"), "folder: no finished run is in it"),
            ((*PEOPLE, "--config.align.beta=3"), "--config.align.beta does nothing here"),
        ],
        "of": [
            ((*PEOPLE, "--of=lok"), "--of=lok: people.csv has no such score; did you mean look"),
            ((*PEOPLE, "--of=look,"), "--of: a name is empty"),
            ((*PEOPLE, "--of=look,look"), "--of: look stands twice"),
        ],
        "scores": [
            (PEOPLE[::2], "--scores=TABLE is missing: people.csv has no judge"),
            ((*PEOPLE, "--scores=people.csv,"), "--scores: a name is empty"),
            ((*PEOPLE, "--scores=a.csv,a.csv"), "--scores: a.csv stands twice"),
            ((*PEOPLE, "--scores=nowhere.csv"), "nowhere.csv: no such file"),
            ((*PEOPLE, "--scores=people.csv,s3://b/s.csv"), "--scores=s3://b/s.csv: "),
        ],
        "split": [
            ((*PEOPLE, "--scores=people.csv", "--split=test"), "--split=test: no clips of it; th"),
        ],
        "policy": [
            ((*PEOPLE, "--scores=people.csv", "--policy=dpo"), "--policy=dpo: no clips of it; th"),
        ],
        "out": [
            (PEOPLE[:2], "--out=FOLDER is missing"),
            ((*PEOPLE, "--out=latin"), "--out=latin is a file: give a folder"),
        ],
    },
    "sample": {
        "model": [
            (("--prompt=a",), "give either --model=FOLDER or --workdir=FOLDER"),
            ((*DRAW, "--workdir=w"), "give either --model=FOLDER or --workdir=FOLDER"),
        ],
        "lora": [
            ((*RUN, "--lora=l"), "--lora goes with --model"),
            ((*DRAW, "--lora="), "--lora is empty"),
        ],
        "lora_scale": [
            ((*DRAW, "--lora_scale=2"), "--lora_scale goes with --lora"),
            ((*DRAW, "--lora=l", "--lora_scale=nan"), "--lora_scale=nan: give a finite number"),
        ],
        "workdir": [((*DRAW, "--workdir="), "--workdir is empty")],
        "policy": [((*DRAW, "--policy=p"), "--policy goes with --workdir")],
        "prompt": [
            (("--model=m",), "give either --prompt or --prompts_file"),
            (("--model=m", "--prompt= "), "--prompt is empty"),
            (("--model=m", "--prompt=a\nb"), "--prompt has a line break"),
        ],
        "prompts_file": [
            ((*DRAW, "--prompts_file=p"), "give either --prompt or --prompts_file"),
            (("--model=m", "--prompts_file=nowhere"), "--prompts_file=nowhere: no such file"),
            (("--model=m", "--prompts_file=folder"), "a folder, where a file is wanted"),
            (("--model=m", "--prompts_file=latin"), "latin, line 1: not UTF-8"),
        ],
        "image": [((*DRAW, "--image=nowhere"), "--image=nowhere: no such file")],
        "scene": [((*RUN, "--scene=s", "--image=i"), "give either --scene or --image")],
        "out": [
            ((*DRAW, "--out="), "--out is empty"),
            ((*DRAW, "--out=folder/v.mp4"), "folder/v.mp4 is a folder"),
            ((*DRAW, "--out=latin"), "--out=latin is a file"),
            ((*DRAW, "--out=latin/v.mp4"), "latin is no folder"),
            (("--model=m", "--prompts_file=p.mp4", "--out=p.mp4"), "p.mp4 is read, and would be"),
        ],
        "per_prompt": [((*DRAW, "--per_prompt=0"), "--per_prompt")],
        "seed": [((*DRAW, "--seed=-1"), "--seed"), ((*DRAW, "--seed=99999999999"), "--seed")],
        "fps": [
            ((*DRAW, "--fps=-8"), "--fps=-8: give a number above 0"),
            ((*DRAW, "--fps=nan"), "--fps=nan: give a finite number"),
        ],
        "init_noise": [
            ((*DRAW, "--init_noise=nowhere"), "--init_noise=nowhere: no such file"),
            ((*DRAW, "--init_noise=empty"), "--init_noise=empty: no array of numpy can be read"),
            ((*DRAW, "--init_noise=latin"), "--init_noise=latin: no array of numpy can be read"),
        ],
        "step_noise": [((*DRAW, "--step_noise=folder"), "--step_noise=folder: no such file")],
        "save_latents": [
            ((*DRAW, "--save_latents=x"), "name a file that ends in .npy"),
            ((*DRAW, "--save_latents=latin/x.npy"), "latin is no folder"),
        ],
        "steps": [((*DRAW, "--steps=0"), "--steps"), ((*RUN, "--steps=2"), "--steps goes with")],
        "guidance_scale": [((*DRAW, "--guidance_scale=inf"), "--guidance_scale=inf: give a fin")],
        "negative_prompt": [
            ((*DRAW, "--negative_prompt=b", "--guidance_scale=1"), "--negative_prompt does nothing")
        ],
        "dynamic_guidance": [
            ((*DRAW, "--dynamic_guidance", "--guidance_scale=1"), "--dynamic_guidance does nothing")
        ],
        "sampler": [((*DRAW, "--sampler="), "--sampler is empty")],
        "batch_size": [
            ((*DRAW, "--batch_size=-1"), "--batch_size"),
            ((*DRAW, "--batch_size=2", "--config.sampler.batch_size=4"), "say the same thing"),
        ],
        "height": [((*DRAW, "--height=0"), "--height")],
        "width": [((*DRAW, "--width=-8"), "--width")],
        "num_frames": [((*DRAW, "--num_frames=1.5"), "--num_frames")],
        "dtype": [
            ((*DRAW, "--dtype=fp16"), "--dtype=fp16: known are float32, bfloat16"),
            ((*RUN, "--dtype=float32"), "--dtype goes with --model"),
            ((*DRAW, "--config.align.beta=2"), "--config.align.beta does nothing where"),
            ((*DRAW, "--config.model.init=m"), "--config.model.init: give --model"),
        ],
    },
}
# What is taken: the flag has an effect, which tests of the program show.
TAKEN = {
    "tpu_run": [(MINI, "--workdir=w"), (MINI, "--workdir=w", "--dry_run")],
    "compare": [("--configs=dpo_aif,rwr_aif", "--workdir=w", "--config.align.train.steps=3")],
    "export_torch": [("--workdir=w", "--out=o", "--format=peft", "--dtype=bf16")],
    "score": [
        (*SCORE, "--prompt=a", "--dimensions=accept,motion_quality", "--num_frames=8"),
        (*SCORE, "--prompt=a", "--config.reward.dimension=motion_quality", "--cache=new/c"),
    ],
    "evaluate": [
        (*COMPARE, "--config.sampler.steps=3", "--config.data.height=64", "--limit=1"),
        ("--workdir=w", "--policy=p", *COMPARE[2:], "--prompts=ta_hard", "--shown=0"),
    ],
    "measure": [
        ("--videos=.", "--out=o"),
        ("--videos=.", "--reference=.", "--i3d=i", "--out=new/o", "--cache=new/c"),
        ("--videos=.", "--out=o", "--metrics=clip_score", "--clip=c", "--named_by_prompts"),
    ],
    "sample": [
        (*DRAW, "--dtype=bf16", "--negative_prompt=", "--config.data.fps=8"),
        (*DRAW, "--lora=l", "--lora_scale=0", "--guidance_scale=1", "--fps=12", "--out=new/a/"),
        (*RUN, "--policy=p", "--scene=s", "--seed=3", "--save_latents=new/l.npy"),
    ],
}
CASES = [
    pytest.param(program, argv, message, id=f"{program}-{flag}-{number}")
    for program, table in REFUSED.items()
    for flag, cases in table.items()
    for number, (argv, message) in enumerate(cases)
]


@pytest.fixture
def launch(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder" / "v.mp4").mkdir(parents=True)
    for name in ("empty", "clip"):
        (tmp_path / name).touch()
    (tmp_path / "latin").write_bytes("a café\n".encode("latin-1"))
    write_text(tmp_path / "p.mp4", "a cat\n")
    write_text(tmp_path / "people.csv", "clip,look\na.mp4,1\n")
    return Launcher(monkeypatch, capsys)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_table_has_every_flag(program, launch):
    launch(program, "stray")
    assert set(REFUSED[program]) == set(launch.flags)


@pytest.mark.parametrize(("program", "argv", "message"), CASES)
def test_nonsense_is_refused_by_name(program, argv, message, launch):
    ended = launch(program, *argv)
    assert ended.status == 1, ended.text
    assert message in ended.text
    assert "Traceback" not in ended.text


@pytest.mark.parametrize(
    ("program", "argv"), [(program, argv) for program in TAKEN for argv in TAKEN[program]]
)
def test_what_makes_sense_is_taken(program, argv, launch):
    ended = launch(program, *argv)
    assert ended.status is None, ended.text


# Every flag that names a file or folder: no address must come to be the folder "gs:" or "s3:".
WRITTEN = ("out", "cache", "save_latents")
PATHS = [
    *(("tpu_run", "workdir"), ("compare", "workdir"), ("manifest", "workdir")),
    *(("export_torch", "workdir"), ("export_torch", "out"), ("clips", "workdir"), ("clips", "out")),
    *(("sample", name) for name in ("model", "lora", "workdir", "prompts_file", "image", "out")),
    *(("sample", name) for name in ("init_noise", "step_noise", "save_latents")),
    *(("score", name) for name in ("judge", "videos", "prompts", "root", "out", "cache")),
    *(("measure", name) for name in ("videos", "reference", "prompts", "out", "cache")),
    *(("measure", name) for name in ("vbench_results", "videomae", "i3d", "inception", "raft")),
    *(("measure", name) for name in ("clip", "clip_b32", "clip_l14", "aesthetic_head", "dino")),
    *(("measure", name) for name in ("musiq", "amt")),
    *(("annotate", name) for name in ("workdir", "prompts", "out")),
    *(("evaluate", name) for name in ("model", "lora", "tuned", "workdir", "prompts", "out")),
    *(("evaluate_judge", name) for name in ("pairs", "root", "scores", "judge", "cache", "out")),
    *(("correlate", name) for name in ("truth", "scores", "out")),
]


@pytest.mark.parametrize(("program", "flag"), PATHS)
def test_buckets_are_refused_by_name_where_they_cannot_be(program, flag, launch, tmp_path):
    before = sorted(tmp_path.iterdir())
    for address in ("gs://b/run", "s3://b/run"):
        ended = launch(program, f"--{flag}={address}")
        assert ended.status == 1
        refused = f"--{flag}={address}: " in ended.text
        assert refused == (flag in WRITTEN or address.startswith("s3:")), ended.text
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("program", "argv"),
    [
        *(("tpu_run", (MINI,)), ("tpu_run", (MINI, "--dry_run")), ("tpu_run", ("--prune",))),
        *(("compare", ("--configs=dpo_aif,rwr_aif",)), ("export_torch", ("--out=o",))),
        *(("clips", ()), ("annotate", ("--out=o",)), ("sample", ("--prompt=a", "--out=clip.mp4"))),
    ],
)
def test_a_bucket_of_no_name_is_refused_and_makes_no_folder(program, argv, launch, tmp_path):
    before = sorted(tmp_path.iterdir())
    ended = launch(program, *argv, "--workdir=gs://b/run")
    assert ended.status == 1
    assert "gs://b/run: give gs://BUCKET/FOLDER, with the name of a bucket" in ended.text
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("program", ["tpu_run", "compare", "manifest", "sample"])
@pytest.mark.parametrize(
    "field", [path for path, spec in FIELDS.items() if spec.touches == "place"]
)
def test_fields_that_are_read_take_buckets_of_google_alone(program, field, launch):
    for address in ("gs://b/x", "s3://b/x"):
        ended = launch(program, f"--config.{field}={address}")
        refused = f"--config.{field}={address}: " in ended.text
        known = address.startswith("gs:") or field.endswith("base_url")
        assert (ended.status, refused) == (1, not known), ended.text


@pytest.mark.parametrize("program", PROGRAMS)
def test_stray_arguments_are_refused(program, launch):
    ended = launch(program, "stray")
    assert (ended.status, "not understood: stray" in ended.text) == (1, True)


def test_what_is_missing_is_listed_together(launch):
    ended = launch("tpu_run")
    assert all(word in ended.text for word in ("--config=NAME", "--workdir=FOLDER"))
    ended = launch("tpu_run", MINI, "--config.aling.beta=3")
    assert all(word in ended.text for word in ("--workdir=FOLDER", "did you mean align.beta"))
    ended = launch("sample", "--fps=0")
    assert all(word in ended.text for word in ("--model=", "--prompts_file", "--fps=0"))
