"""Kills a process again and again while it writes a journal: `python killed_writers.py FILE KILLS`.

Before each answer the writer says its number on a pipe, and after it that it is saved. After each
kill the journal is opened again: it must hold every answer that was said to be saved, and nothing
that was not begun. Prints how many kills there were, answers, and lines found cut off.
"""

import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from annotation_examples import ANSWER, task

from vidpref.annotation.answers import Answers
from vidpref.annotation.journal import Journal

path, kills = Path(sys.argv[1]), int(sys.argv[2])
wanted, rng = task(1000), random.Random(0)
saved = torn = 0
for _ in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answers = Answers(wanted, Journal(path, wanted))
        while True:
            key = answers.state("ann")["next"][0].key
            answers.answer("ann", key, ANSWER, note="n" * rng.randrange(2000))
            os.write(writer, struct.pack("<I", len(answers.standing().answers())))
    os.close(writer)
    told = os.read(reader, 4)  # it has begun
    time.sleep(rng.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 2**16):
        told += more
    os.close(reader)
    saved = struct.unpack("<I", told[-4:])[0]
    journal = Journal(path, wanted)
    torn += bool(journal.torn)
    journal.close()
    found = len(journal.entries)
    assert saved <= found <= saved + 1, (saved, found)
print(kills, saved, torn)
