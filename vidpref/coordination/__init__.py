"""Hosts that act as one: who belongs to a run, what one decides for all, and how all end together.

A host is a process of `jax.distributed`: on a pod one a machine, on GPUs often one a GPU. With one
process everything here is a function call, and nothing waits.
"""
