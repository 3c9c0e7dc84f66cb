"""The API server, controller manager, kubectl and etcd, built once from their Go modules into the cache."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from lvs_lab import cache
from lvs_lab.errors import ToolsMissing
from lvs_lab.progress import Progress, running

GO_NEEDED = (1, 26)

_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
_BUILD_TIMEOUT = 3600.0


def parse_go_version(text: str) -> tuple[int, int] | None:
    """Read the output of `go version`."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def go_version() -> tuple[int, int] | None:
    """Return the version of the Go on the PATH; None when there is none."""
    try:
        completed = subprocess.run(["go", "version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_go_version(completed.stdout)


def missing() -> list[str]:
    """Name the binaries that have to be built."""
    return [name for name in cache.BINARIES if cache.find_binary(name) is None]


def build(progress: Progress) -> None:
    """Build what is missing, one after the other (each uses all cores). Raises ToolsMissing."""
    names = missing()
    if not names:
        return
    version = go_version()
    if version is None or version < GO_NEEDED:
        found = "none is on the PATH" if version is None else f"found {version[0]}.{version[1]}"
        raise ToolsMissing(f"Go {GO_NEEDED[0]}.{GO_NEEDED[1]} or newer is needed to build {', '.join(names)}; {found}")
    progress(f"building {', '.join(names)} once, from their Go modules: some six minutes on two cores")
    for name in names:
        _build(name, progress)
    progress("the binaries are kept; `go clean -cache` gives back some 3 GB that the build used")


def _build(name: str, progress: Progress) -> None:
    directory = cache.binary_directory(name)
    directory.mkdir(parents=True, exist_ok=True)
    # A build that is interrupted leaves nothing behind under the final name.
    with tempfile.TemporaryDirectory(prefix=".building-", dir=directory) as temporary:
        output = Path(temporary) / name
        argv = ["go", "build", "-trimpath", "-ldflags", _linker_flags(name), "-o", str(output), _PACKAGES[name]]
        environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
        module = cache.GO_MODULES / ("etcd" if name == "etcd" else "kubernetes")
        with running(progress, f"building {name}"):
            process = subprocess.Popen(
                argv, cwd=module, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            try:
                said, _ = process.communicate(timeout=_BUILD_TIMEOUT)
            except BaseException:
                process.kill()
                process.wait()
                raise
        if process.returncode:
            raise ToolsMissing(f"building {name} failed:\n{said[-4000:]}")
        output.replace(directory / name)


def _linker_flags(name: str) -> str:
    flags = ["-s", "-w"]
    if name != "etcd":
        version = cache.version_in("kubernetes", "k8s.io/kubernetes")
        major, minor, _ = version.removeprefix("v").split(".", 2)
        # Without it the server says v0.0.0-master+$Format and `kubectl version` fails.
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            flags.append(f"-X {package}.gitVersion={version}")
            flags += [f"-X {package}.gitMajor={major}", f"-X {package}.gitMinor={minor}"]
    return " ".join(flags)
