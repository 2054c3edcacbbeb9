"""What a run will need: memory, arithmetic, traffic and time, from its compiled programs."""
