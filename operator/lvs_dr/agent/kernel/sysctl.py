"""Sysctls below net, as files; the root is configurable because the host's are mounted elsewhere in a pod."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lvs_dr.agent.kernel.errors import KernelError, describe, sysctl_failure
from lvs_dr.core.kernel import Failure, SysctlKey, SysctlOp

DEFAULT_ROOT: Final = Path("/proc/sys/net")


class Sysctls:
    """Reads and writes sysctls below one root."""

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self._root = root

    def read(self, keys: Iterable[SysctlKey]) -> dict[SysctlKey, str]:
        """Return the values of those that exist. Raises KernelError."""
        result: dict[SysctlKey, str] = {}
        for key in keys:
            try:
                result[key] = self._path(key).read_text("ascii").strip()
            except FileNotFoundError:
                continue
            except OSError as error:
                code = error.errno or 0
                raise KernelError(code, f"sysctl {name(key)} cannot be read: {describe(code)}") from error
        return result

    def apply(self, op: SysctlOp) -> Failure | None:
        """Write one value."""
        try:
            # Not write_text: that would create and truncate, and a sysctl wants one write().
            with self._path(op.key).open("rb+", buffering=0) as file:
                file.write(op.value.encode("ascii"))
        except OSError as error:
            return sysctl_failure(op, error.errno or 0)
        return None

    def _path(self, key: SysctlKey) -> Path:
        return self._root.joinpath(*key.path)


def name(key: SysctlKey) -> str:
    """Return how sysctl(8) names it."""
    return ".".join(("net", *key.path))
