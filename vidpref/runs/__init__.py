"""The graph of stages: recipes, artifacts, rounds, comparisons, reports."""
