"""The parts of the PyTorch file that `torch_export` writes; they import torch and each other only.

Each part is a module here, so that it is checked and read like any other; an exported folder holds
those that it needs as one file.
"""
