"""Tables of people and of automatic scores, read and joined by clip; a run's judge and verifier."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from tests.runs.verified_runs import write_verified_run
from vidpref.runs import correlation_results as results
from vidpref.runs.correlated_scores import join, read_scores, read_truth
from vidpref.runs.run_folder import RunRecord, write_record


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name

    return write


def joined(truth, *scores, of=()):
    people, *judge = read_truth(truth, of)
    return join(people, [*judge, *read_scores(scores)])


PEOPLE = """clip,prompt,accept,look,remark
a.mp4,one,True,3,fine
./b.mp4,one,false,1.5,
c.mp4,two,,2,?
"""


def test_columns_of_numbers_are_scores_and_texts_say_what_a_clip_is(write):
    judge = (
        "clip,category,judge,look,seen\nv/../b.mp4,FD,me,0.5,9\na.mp4,DM,me,,9\nc.mp4,DM,me,1,9\n"
    )
    found = joined(write("people.csv", PEOPLE), write("judge.csv", judge))
    assert found.clips.to_dict("list") == {
        "prompt": ["one", "one", "two"],
        "category": ["DM", "FD", "DM"],
    }
    expected = {"accept": [1.0, 0.0, np.nan], "look": [3.0, 1.5, 2.0]}
    pd.testing.assert_frame_equal(found.truth, pd.DataFrame(expected))
    pd.testing.assert_frame_equal(found.proxies, pd.DataFrame({"judge.look": [np.nan, 0.5, 1.0]}))
    assert found.skipped.rows == [
        ("a.mp4", "without a number", "judge.look; used for the others"),
        ("c.mp4", "without a number", "people.accept; used for the others"),
    ]
    assert list(joined("people.csv", "judge.csv", of=["look"]).truth) == ["look"]


def test_clips_of_one_table_are_named(write):
    write("one/scores.csv", "clip,x\na.mp4,1\nd.mp4,2\n")
    write("two/scores.csv", "clip,x\na.mp4,1\nb.mp4,7\n")
    found = joined(write("people.csv", PEOPLE), "one/scores.csv", "two/scores.csv", of=["look"])
    assert list(found.proxies) == ["one/scores.x", "two/scores.x"]
    np.testing.assert_array_equal(found.proxies, [[1.0, 1.0], [np.nan, 7.0]])
    assert [row[:2] for row in found.skipped.rows] == [
        ("b.mp4", "not in all tables"),
        ("c.mp4", "without a score"),
        ("d.mp4", "without truth"),
    ]


def test_policies_tell_clips_of_one_name_apart(write):
    people = "clip,policy,look\n0.mp4,dpo,1\n0.mp4,base,2\n1.mp4,dpo,3\n1.mp4,base,4\n"
    measured = "program,clip,prompt,frames,clip_score,failure\nout/base/,1.mp4,p,8,0.4,\n"
    measured += "out/dpo,1.mp4,p,8,0.3,\nout/base/,0.mp4,q,8,0.2,\nout/dpo,0.mp4,q,8,0.1,\n"
    found = joined(write("people.csv", people), write("clips.csv", measured))
    assert found.clips["policy"].tolist() == ["dpo", "base", "dpo", "base"]
    assert found.clips["prompt"].tolist() == ["q", "q", "p", "p"]
    assert found.proxies["clips.clip_score"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert not len(found.skipped)
    with pytest.raises(ValueError, match=r"0.mp4 stands twice in people.*which other lacks"):
        joined("people.csv", write("other.csv", "clip,x\n0.mp4,1\n"))
    write("twice.csv", people.replace("1.mp4,dpo", "0.mp4,dpo"))
    with pytest.raises(ValueError, match=r"dpo/0.mp4 stands twice in twice"):
        joined("people.csv", "twice.csv")


def test_people_who_graded_clips_in_preferences_count_with_their_mean(write):
    rows = [
        {"prompt": f"p{i % 2}", "clip_a": f"{i}.mp4", "scores_a": {"look": i + k}, "judge": f"j{k}"}
        for i in range(4)
        for k in range(3)
    ]
    for i in range(4):
        write(f"{i}.mp4", "")
    write("grades.jsonl", "\n".join(map(json.dumps, rows)))
    found = joined("grades.jsonl", write("s.csv", "clip,x\n3.mp4,1\n1.mp4,2\n0.mp4,5\n2.mp4,3\n"))
    assert found.truth["look"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found.proxies["s.x"].tolist() == [5.0, 2.0, 3.0, 1.0]
    assert found.clips["prompt"].tolist() == ["p0", "p1", "p0", "p1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,x\na.mp4,1\n", "judge.csv: no column clip; it has video, x"),
        ("clip,x\n", "no row in it"),
        ("clip,x\na.mp4,1\n ,2\n", "judge.csv: a row names no clip"),
        ("clip,x\na.mp4,good\n", "judge.csv: no column of numbers beside clip; it has clip, x"),
        ("clip,x\na.mp4,1\nb.mp4,O.5\n", "judge.csv: b.mp4: x='O.5' is not a finite number"),
        ("clip,x\na.mp4,1\na.mp4,o\n", "judge.csv: a.mp4 (row 2): x='o' is not a finite number"),
        ("clip,x\na.mp4,inf\n", "a.mp4: x='inf' is not a finite number"),
        ("clip,x\nz.mp4,1\n", "no clip in common: people calls its first a.mp4, judge z.mp4"),
        ("clip,x\na.mp4,1\na.mp4,2\n", "a.mp4 stands twice in judge: leave one row a clip, or"),
        ("clip,prompt,x\na.mp4,other,1\n", "a.mp4: its prompt is 'one' in people and 'other' in j"),
        ("clip,category,x\na.mp4,DM,1\nb.mp4,,1\n", "b.mp4 has no category, and other clips have"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused(write, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        joined(write("people.csv", PEOPLE), write("judge.csv", text))


def test_a_truth_that_is_none_is_refused(write):
    write("people.csv", PEOPLE)
    with pytest.raises(ValueError, match=r"--of=acept: people.csv has no such score; did you mean"):
        read_truth("people.csv", ["acept"])
    for name in ("a.mp4", "b.mp4"):
        write(name, "")
    row = {"prompt": "p", "clip_a": "a.mp4", "clip_b": "b.mp4", "verdict": "A"}
    with pytest.raises(ValueError, match="people scored no single clips in it"):
        read_truth(write("pairs.jsonl", json.dumps(row)))
    write("folder/a.txt", "")
    with pytest.raises(ValueError, match="folder: no finished run is in it, and as preferences: "):
        read_truth("folder")


@pytest.fixture
def run(tmp_path):
    return write_verified_run(tmp_path)


def test_a_runs_judge_stands_against_its_verifier(run, tmp_path):
    folder, tables = run
    for place in (folder, tmp_path):
        truth, judge = read_truth(str(place))
        found = join(truth, [judge])
        assert list(found.truth) == ["accept", "motion"]
        assert list(found.proxies) == ["judge.motion", "judge.overall"]
        assert (truth.about["clip"][0], truth.about["clip"][35]) == (
            "pretrained/scene-0/0",
            "dpo/scene-5/2",
        )
        sides = [
            pd.concat([tables[f"{side}-evaluation-pretrained-{0:012d}"],
                       tables[f"{side}-evaluation-dpo-{1:012d}"]], ignore_index=True)
            for side in ("verify", "label")
        ]  # fmt: skip
        np.testing.assert_array_equal(found.truth, sides[0][["accept", "motion"]])
        np.testing.assert_array_equal(found.proxies, sides[1][["motion", "overall"]])
        assert found.clips["policy"].tolist() == 18 * ["pretrained"] + 18 * ["dpo"]
    (only,) = read_truth(str(folder), ["motion"])[:1]
    assert list(only.numbers) == ["motion"]


def test_judges_of_other_runs_are_scores(run, tmp_path):
    folder = run[0]
    truth, judge = read_truth(str(folder))
    found = join(truth, [judge, *read_scores([f"{tmp_path}/"])])
    same = found.proxies[f"{tmp_path.name}.motion"]
    np.testing.assert_array_equal(same, found.proxies["judge.motion"])
    names = [table.name for table in read_scores([str(folder), str(tmp_path)])]
    assert names == [folder.name, tmp_path.name]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="nothing is a folder, and no finished run is in it"):
        read_scores([str(tmp_path / "nothing")])


def test_splits_of_a_run_and_the_files_that_are_written(run, tmp_path):
    truth, judge = read_truth(str(run[0]))
    found = results.correlate(truth, [judge], {"policy": "dpo", "split": "test"})
    assert found.about == (
        "judge against truth, policy dpo, split test: 9 clips, 3 prompts, 1 policy, 1 category"
    )
    paths = results.write(tmp_path / "out", found)
    names = ["correlations.md", "correlations.csv", "correlations.png"]
    assert [path.name for path in paths] == names
    assert pd.read_csv(paths[1])["level"].value_counts().to_dict() == {
        "clips": 4, "within prompts": 4, "prompts": 4, "clips by category": 4,
    }  # fmt: skip
    both = results.correlate(truth, [judge])
    assert "2 policies, 1 category; fewer than 3 policies have no correlation of mean" in both.about
    with pytest.raises(ValueError, match="--split=tset: no clips of it; there are test, train"):
        results.correlate(truth, [judge], {"split": "tset"})
    unjudged = RunRecord("own:mini", (), {}, {})
    write_record(run[0], unjudged)
    with pytest.raises(ValueError, match="nobody scored the clips of this run"):
        read_truth(str(run[0]))
