"""What people said of clips and what automatic scores say, read from files and joined by clip."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
import pandas as pd

from vidpref.config.nearest import nearest
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.benchmarks import read_benchmark
from vidpref.evaluation.judged_pairs import NO_SCORES, numbers_of
from vidpref.runs import score_tables
from vidpref.runs.run_truth import is_run, run_scores
from vidpref.storage.copies import here, is_folder

ABOUT = ("policy", "prompt", "split", "category")  # what may be known of a clip
_PROGRAM = "program"  # what launch/measure.py calls the folder of a policy's clips
_NO_SCORES = NO_SCORES | {*ABOUT, _PROGRAM, "sample", "scene_id", "clip_id", "training_seed"}
_TRUE_FALSE = {"true": 1.0, "false": 0.0}


@dataclasses.dataclass(frozen=True)
class Scores:
    """A table of scores of clips.

    Attributes:
        name: what proxies of it are called by.
        about: a row a clip: clip, and those of `ABOUT` that the table says.
        numbers: the same rows, a column a score; nan where it has none.
        skipped: rows that could not be used.
    """

    name: str
    about: pd.DataFrame
    numbers: pd.DataFrame
    skipped: BadClips = dataclasses.field(default_factory=BadClips)


@dataclasses.dataclass(frozen=True)
class Joined:
    """Clips that people scored and that have an automatic score; see `level_correlations`.

    Attributes:
        clips, truth, proxies: the same rows.
        skipped: clips without one or the other, and where.
    """

    clips: pd.DataFrame
    truth: pd.DataFrame
    proxies: pd.DataFrame
    skipped: BadClips


def read_truth(place: str, dimensions: Sequence[str] = ()) -> list[Scores]:
    """Returns what people, or a verifier, said; and of a run, what its judge said.

    Args:
        place: a table (.csv, .parquet) with a column clip and one a dimension; a file of
            preferences in which people scored single clips; or the folder of a finished run whose
            tables go by a verifier.
        dimensions: those that are wanted; all if none is given.

    Returns:
        The truth, and for a run whose judge stands beside it the judge's scores.

    Raises:
        ValueError: nothing that could be read so, no score of single clips, or no such dimension.
    """
    folder = is_folder(place)
    if folder and is_run(place):
        truth, *judge = (scores_of(name, table) for name, table in run_scores(place).items())
    else:
        try:
            truth, judge = _read_people(place), []
        except ValueError as error:
            if folder:
                why = f"{place}: no finished run is in it, and as preferences: {error}"
                raise ValueError(why) from error
            raise
    for name in dimensions:
        if name not in truth.numbers:
            hint = nearest(name, list(truth.numbers))
            raise ValueError(f"--of={name}: {place} has no such score; {hint}")
    chosen = list(dimensions or truth.numbers)
    return [dataclasses.replace(truth, numbers=truth.numbers[chosen]), *judge]


def read_scores(places: Sequence[str]) -> list[Scores]:
    """Returns tables of automatic scores: those of launch/score.py, of launch/measure.py, or any.

    Args:
        places: files (.csv, .parquet) with a column clip and a column a score; or finished runs,
            of which it is what their judges said of the clips that policies are compared on.

    Raises:
        ValueError: as `score_tables.read`; a table without a score, a clip without a name, a
            column of texts and numbers, or a folder that is no run.
    """
    paths = [PurePath(place) for place in places]
    runs = [is_folder(place) for place in places]
    stems = [path.name if run else path.stem for path, run in zip(paths, runs, strict=True)]
    names = [
        stem if stems.count(stem) == 1 else f"{path.parent.name}/{stem}"
        for path, stem in zip(paths, stems, strict=True)
    ]
    if len(set(names)) < len(names):
        names = list(places)
    whole = [
        _of_run(place) if run else score_tables.read(here(place), ["clip"])
        for place, run in zip(places, runs, strict=True)
    ]
    return [scores_of(*one) for one in zip(names, whole, places, strict=True)]


def join(truth: Scores, tables: Sequence[Scores]) -> Joined:
    """Returns the clips that the truth and a table of scores have in common.

    A clip is known by its name; where this stands twice in a table, by policy and name. Each column
    is a proxy, called NAME.COLUMN.

    Args:
        truth: what people said.
        tables: automatic scores.

    Raises:
        ValueError: no clip in common, a clip that stands twice, tables that say different things of
            a clip, or a clip without the prompt that others have.
    """
    whole = [truth, *tables]
    keys = _keys(whole)
    about = _about(whole, keys)
    people = truth.numbers.set_axis(keys[0])
    proxies = [
        table.numbers.add_prefix(f"{table.name}.").set_axis(key)
        for table, key in zip(tables, keys[1:], strict=True)
    ]
    scored = pd.Index([]).append([table.index for table in proxies]).unique()
    common = people.index[people.index.isin(scored)]
    if common.empty:
        raise ValueError(
            f"no clip in common: {truth.name} calls its first {keys[0][0]}, "
            + ", ".join(f"{t.name} {k[0]}" for t, k in zip(tables, keys[1:], strict=True))
            + "; the names must be the same"
        )
    known = about.loc[common]
    for column in known:
        if known[column].isna().any():
            clip = common[known[column].isna().to_numpy()][0]
            raise ValueError(
                f"{clip} has no {column}, and other clips have: fill it in, or take the column out"
            )
    said = people.loc[common]
    values = pd.concat([table.reindex(common) for table in proxies], axis=1)
    skipped = _skipped(
        whole, keys, common, pd.concat([said.add_prefix(f"{truth.name}."), values], axis=1)
    )
    return Joined(*(table.reset_index(drop=True) for table in (known, said, values)), skipped)


def scores_of(name: str, table: pd.DataFrame, path: PurePath | str = "") -> Scores:
    """Returns what a table says of clips, and its columns of numbers.

    Args:
        name: what proxies of it are called by.
        table: a column clip, those of `ABOUT` that are known, and a column a score.
        path: where it was read, for messages.

    Raises:
        ValueError: no column of numbers, a clip without a name, a column of texts and numbers.
    """
    where = path or name
    clips = table["clip"].fillna("").astype(str)
    if (clips.str.strip() == "").any():
        raise ValueError(f"{where}: a row names no clip; fill in the column clip")
    about = pd.DataFrame({"clip": [os.path.normpath(clip) for clip in clips]})
    for column in ABOUT:
        texts = _texts(table, column)
        if texts is not None:
            about[column] = texts
    programs = _texts(table, _PROGRAM)
    if "policy" not in about and programs is not None:
        about["policy"] = [os.path.basename(os.path.normpath(place)) for place in programs]
    scores = [column for column in table if column not in _NO_SCORES]
    rows = [f"{clip} (row {row})" for row, clip in enumerate(about["clip"], 1)]
    named = table.set_axis(np.where(about["clip"].duplicated(keep=False), rows, about["clip"]))
    numbers = {column: _numbers(named[column], where) for column in scores}
    known = {column: values for column, values in numbers.items() if values is not None}
    if not known:
        raise ValueError(f"{where}: no column of numbers beside clip; it has {', '.join(table)}")
    return Scores(name, about, pd.DataFrame(known))


def _of_run(place: str) -> pd.DataFrame:
    if not is_run(place):
        raise ValueError(f"--scores: {place} is a folder, and no finished run is in it")
    return list(run_scores(place).values())[-1]  # the judge's, where a verifier stands beside it


def _read_people(place: str) -> Scores:
    path = here(place)
    if path.suffix.lower() in score_tables.SUFFIXES and path.is_file():
        table = score_tables.read(path, ())
        if "clip" in table:
            return scores_of(path.stem, table, path)
    read = read_benchmark(place)
    said, clips = read.preferences.scores, read.preferences.clips
    if said.empty:
        raise ValueError(
            f"{path}: people scored no single clips in it. Wanted are a table with a column clip "
            "and one a dimension, preferences with scores_a, or the folder of a run"
        )
    numbers = said.groupby(["clip", "dimension"])["score"].mean().unstack("dimension")
    about = clips.set_index("id").loc[numbers.index, ["prompt"]].rename_axis("clip").reset_index()
    numbers = numbers[list(dict.fromkeys(said["dimension"]))]
    return Scores(path.stem, about, numbers.reset_index(drop=True), read.skipped)


def _texts(table: pd.DataFrame, column: str) -> np.ndarray | None:
    """A column of texts; None where it is missing or empty throughout."""
    if column not in table:
        return None
    texts = table[column].fillna("").astype(str).str.strip()
    return texts.to_numpy() if (texts != "").any() else None


def _numbers(column: pd.Series, where: PurePath | str) -> np.ndarray | None:
    """A column as numbers; None where it holds none, such as one of remarks."""
    if column.dtype.kind not in "fiub":
        column = column.replace(r"^\s*$", np.nan, regex=True)
        said = column.dropna().astype(str).str.lower()
        if set(said) <= set(_TRUE_FALSE):
            column = said.map(_TRUE_FALSE).reindex(column.index)
        elif pd.to_numeric(said, errors="coerce").isna().all():
            return None
    try:
        return numbers_of(column).to_numpy(np.float64)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _keys(tables: Sequence[Scores]) -> list[pd.Index]:
    """What each table's clips are known by."""
    twice = [table for table in tables if table.about["clip"].duplicated().any()]
    if not twice:
        return [pd.Index(table.about["clip"]) for table in tables]
    keys = []
    for table in tables:
        if "policy" not in table.about:
            clips = twice[0].about["clip"]
            raise ValueError(
                f"{clips[clips.duplicated()].iloc[0]} stands twice in {twice[0].name}: leave one "
                f"row a clip, or tell clips of one name apart by a column policy in all tables, "
                f"which {table.name} lacks"
            )
        key = pd.Index(table.about["policy"] + "/" + table.about["clip"])
        if key.has_duplicates:
            first = key[key.duplicated()][0]
            raise ValueError(f"{first} stands twice in {table.name}: leave one row a clip")
        keys.append(key)
    return keys


def _about(tables: Sequence[Scores], keys: Sequence[pd.Index]) -> pd.DataFrame:
    """What is known of each clip from any table, none against another."""
    named = [t.about.drop(columns="clip").set_axis(k) for t, k in zip(tables, keys, strict=True)]
    clips = pd.Index([]).append(list(keys)).unique()
    found = pd.DataFrame(index=clips)
    for column in ABOUT:
        known = pd.Series(np.nan, clips, dtype=object)
        source = pd.Series("", clips, dtype=object)
        for table, said in zip(tables, named, strict=True):
            if column not in said:
                continue
            own = said[column].replace("", np.nan).reindex(clips)
            other = known.notna() & own.notna() & (known != own)
            if other.any():
                clip = clips[other.to_numpy()][0]
                raise ValueError(
                    f"{clip}: its {column} is {known[clip]!r} in {source[clip]} and {own[clip]!r} "
                    f"in {table.name}; correct one, or take the column {column} out of one"
                )
            source = source.where(known.notna(), table.name)
            known = known.where(known.notna(), own)
        if known.notna().any():
            found[column] = known
    return found


def _skipped(
    tables: Sequence[Scores], keys: Sequence[pd.Index], common: pd.Index, numbers: pd.DataFrame
) -> BadClips:
    """Names the clips that are missing in a table, and those that lack a number."""
    found = BadClips()
    for table in tables:
        for where, reason, detail in table.skipped.rows:
            found.note(where, reason, detail)
    truth, *others = (set(key) for key in keys)
    names = [table.name for table in tables]
    for clip in pd.Index([]).append(list(keys)).unique():
        there = [name for name, key in zip(names[1:], others, strict=True) if clip in key]
        if clip not in truth:
            found.note(clip, "without truth", f"in {', '.join(there)}, not in {names[0]}")
        elif not there:
            found.note(clip, "without a score", f"in {names[0]} alone")
        elif len(there) < len(others):
            rest = [name for name in names[1:] if name not in there]
            found.note(clip, "not in all tables", f"not in {', '.join(rest)}; used for the others")
    gaps = numbers.isna()
    for clip in common[gaps.any(axis=1).to_numpy()]:
        columns = ", ".join(numbers.columns[gaps.loc[clip].to_numpy()])
        found.note(clip, "without a number", f"{columns}; used for the others")
    return found
