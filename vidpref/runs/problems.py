"""Several things that are wrong, said together: a user mends them in one go."""

import contextlib
from collections.abc import Iterator


class Problems:
    """Keeps the errors of parts of a check until all parts were looked at."""

    def __init__(self) -> None:
        self._errors: list[Exception] = []

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """A part of the check, whose ValueError or OSError is kept."""
        try:
            yield
        except (ValueError, OSError) as error:
            self._errors.append(error)

    def refuse(self) -> None:
        """Raises what was kept: one error as it is, several as one of a line each.

        Raises:
            ValueError: there are several.
        """
        if len(self._errors) == 1:
            raise self._errors[0]
        lines = dict.fromkeys(line for error in self._errors for line in str(error).splitlines())
        if lines:
            raise ValueError("\n".join([f"{len(self._errors)} things to mend:", *lines]))
