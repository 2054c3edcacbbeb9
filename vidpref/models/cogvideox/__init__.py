"""CogVideoX: transformer, autoencoder, sizes."""
