"""The key-value store that the coordination service of jax keeps for all hosts, in process 0.

It needs no device, so that hosts can talk while their devices work, wait or hang.
"""

import dataclasses
import json
import sys
from typing import Any

_names: dict[int, str] = {}  # machine of every host, as it said when it joined


class HostsError(RuntimeError):
    """What ends all hosts; every host says it in these words."""


@dataclasses.dataclass(frozen=True)
class Store:
    """The store as one host sees it.

    Attributes:
        client: that of `jax.distributed`.
        index: number of this host.
        count: number of hosts.
    """

    client: Any
    index: int
    count: int

    def put(self, key: str, value: Any, *, again: bool = False) -> bool:
        """Puts a value that JSON can hold; returns False where there is one and `again` is not."""
        try:
            self.client.key_value_set(key, json.dumps(value), allow_overwrite=again)
        except RuntimeError as error:
            if "ALREADY_EXISTS" in str(error):
                return False
            raise
        return True

    def below(self, folder: str) -> dict[str, Any]:
        """Returns {rest of the key: value} of all keys that start with `folder/`."""
        found = self.client.key_value_dir_get(f"{folder}/")
        return {key.removeprefix(f"{folder}/"): json.loads(value) for key, value in found}

    def wait_for(self, key: str, seconds: float) -> Any:
        """Returns the value of a key, as soon as there is one.

        Raises:
            TimeoutError: there was none in this time.
        """
        try:
            return json.loads(self.client.blocking_key_value_get(key, int(1000 * seconds)))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                raise TimeoutError(key) from error
            raise

    def forget(self, folder: str) -> None:
        """Removes a key and all that start with `folder/`."""
        self.client.key_value_delete(folder)


def store() -> Store | None:
    """Returns the store of this run, None where it is one process alone."""
    if "jax" not in sys.modules:
        return None
    # there is no public way to it; Orbax and Levanter reach for it as well
    from jax._src.distributed import global_state

    if global_state.client is None or global_state.num_processes == 1:
        return None
    return Store(global_state.client, global_state.process_id, global_state.num_processes)


def name_hosts(names: dict[int, str]) -> None:
    """Says on which machine every host runs."""
    _names.update(names)


def called(index: int) -> str:
    """Returns what messages call a host, e.g. "host 3 (tpu-vm-3)"."""
    return f"host {index} ({_names[index]})" if index in _names else f"host {index}"


def numbers_text(numbers: list[int], count: int) -> str:
    """Returns e.g. "hosts 7, 31 of 32"; of many only the first ones."""
    shown = ", ".join(map(str, numbers[:8]))
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"host{'s' if len(numbers) > 1 else ''} {shown}{more} of {count}"
