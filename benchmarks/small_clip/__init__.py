"""A small CLIP of the mini world, trained from nothing, in the folder of a published one."""
