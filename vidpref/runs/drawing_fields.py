"""Which fields of a config count where clips are drawn from a pipeline, and nothing is trained."""

_SECTIONS = ("model.", "text.", "diffusion.", "sampler.")
_FIELDS = ("compute_dtype", "data.frames", "data.height", "data.width", "data.fps")


def draws(field: str) -> bool:
    """Returns whether drawn clips may depend on a field, or how fast they are drawn."""
    return field.startswith(_SECTIONS) or field in _FIELDS
