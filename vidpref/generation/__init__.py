"""What makes clips: generators with their processes and samplers, autoencoders, text encoders."""
