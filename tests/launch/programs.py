"""The launch programs in this process, up to where devices or a compiler would be started."""

import dataclasses
import runpy
import sys
from pathlib import Path

from absl import app, flags

from vidpref.planning import compiling
from vidpref.runs import command_line

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.stem for path in (ROOT / "launch").glob("*.py"))


class Reached(Exception):
    """The program has taken its flags and would begin to work."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a program ended: `status` None where it would have begun to work."""

    status: int | None
    text: str


def _take_away_flags_of_others() -> dict[str, flags.Flag]:
    """Flags of programs that a test of this process has imported: a program has its own alone."""
    module = flags.FLAGS.find_module_defining_flag
    found = {n: flags.FLAGS[n] for n in flags.FLAGS if not module(n, "").startswith("absl")}
    for name in found:
        delattr(flags.FLAGS, name)
    return found


class Launcher:
    """Runs programs as a shell would, without a process for each; every error is shown."""

    def __init__(self, monkeypatch, capsys):
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.flags: dict[str, flags.Flag] = {}
        monkeypatch.delenv("VIDPREF_TRACEBACK", raising=False)
        monkeypatch.setattr(app, "run", self._run)
        monkeypatch.setattr(command_line, "start_devices", self._reach)
        monkeypatch.setattr(compiling, "_lines", self._reach)

    def __call__(self, program: str, *argv: str) -> Outcome:
        path = str(ROOT / "launch" / f"{program}.py")
        self._monkeypatch.setattr(sys, "argv", [path, *argv])
        parsed = flags.FLAGS.is_parsed()
        others = _take_away_flags_of_others()
        before = set(flags.FLAGS)
        try:
            runpy.run_path(path, run_name="__main__")
            status = 0
        except Reached:
            status = None
        except SystemExit as end:
            status = end.code
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
            for name, flag in others.items():
                flags.FLAGS[name] = flag
            if not parsed:
                flags.FLAGS.unparse_flags()
        shown = self._capsys.readouterr()
        return Outcome(status, shown.out + shown.err)

    def _run(self, main, argv):
        self.flags = {f.name: f for f in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            print(error, file=sys.stderr)
            sys.exit(1)
        main(rest)

    def _reach(self, *_):
        raise Reached
