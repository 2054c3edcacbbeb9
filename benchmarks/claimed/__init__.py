"""The papers' claims as data, the scores that they are judged by, and the tables of verdicts."""
