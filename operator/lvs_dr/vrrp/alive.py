"""Whether the speaker of this node answers: what a liveness probe asks. Loads next to nothing."""

import socket
from typing import Final

SECONDS: Final = 3.0
_PING: Final = b'{"kind": "ping"}\n'


def answers(path: str) -> str:
    """Return why the speaker with this control socket does not answer, "" if it does."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        try:
            client.connect(path)
            client.sendall(_PING)
            return "" if client.recv(1) else "it hung up"
        except OSError as error:
            return f"no answer from {path}: {error}"
