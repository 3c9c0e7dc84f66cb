"""The container image of the lab: the virtual environment on the host, seen from inside a container.

Any image whose repository ends in `lvs-operator` stands for it. There is no registry and no pull: a container sees
the host's /usr, /etc and so on, the virtual environment, the Python it was made from and the source directories it
points to, all read-only and at their own paths. Everything else of the host is absent.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = "lvs-operator"
SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/etc", "/opt", "/nix")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """What a container of the image is made from: `paths` are on the host, `environment` is the image's own."""

    paths: tuple[str, ...]
    environment: dict[str, str]

    @staticmethod
    def stands_for(reference: str) -> bool:
        """Tell whether an image reference (`registry/repository:tag@digest`) means this image."""
        last = reference.partition("@")[0].rpartition("/")[2]
        return last.partition(":")[0].endswith(REPOSITORY)


def host_image(prefix: Path | None = None) -> Image:
    """Describe the image at `prefix` (default: $LVS_LAB_IMAGE_PREFIX, else this interpreter's environment)."""
    if prefix is None:
        prefix = Path(os.environ.get("LVS_LAB_IMAGE_PREFIX") or sys.prefix)
    paths = [path for path in SYSTEM if Path(path).exists()]
    for path in (prefix, *_base_python(prefix), *_linked_sources(prefix)):
        if not any(path.is_relative_to(known) for known in paths):
            paths.append(str(path))
    return Image(tuple(paths), {"PATH": f"{prefix / 'bin'}:{SYSTEM_PATH}"})


def _base_python(prefix: Path) -> list[Path]:
    """Return the installation that a virtual environment borrows its interpreter and standard library from."""
    executable = (prefix / "bin" / "python3").resolve()
    return [executable.parent.parent] if executable.exists() else []


def _linked_sources(prefix: Path) -> list[Path]:
    """Return directories that `.pth` files add: a project that is installed editable."""
    lines: list[str] = []
    for file in sorted(prefix.glob("lib/python3*/site-packages/*.pth")):
        lines += file.read_text(errors="replace").splitlines()
    return [Path(line) for line in lines if line.startswith("/") and Path(line).is_dir()]
