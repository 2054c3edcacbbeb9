"""Networks only: Linen modules, no training, no files, no prompts."""
