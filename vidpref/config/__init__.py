"""Configs by name and the schema of their fields. The ground floor: knows neither jax nor flax."""
