"""Work directories in a bucket: a folder here that stands for one there, held by one run."""
