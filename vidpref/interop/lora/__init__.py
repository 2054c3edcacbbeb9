"""LoRA files in and out: whose names they have, what their numbers mean, our adapters."""
