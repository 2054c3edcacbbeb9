"""Plan, state, step, sharding, optimizer, checkpoints, loop. Knows nothing about video."""
