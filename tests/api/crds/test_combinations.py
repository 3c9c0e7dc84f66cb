"""API server and parsing refuse the same combinations of fields: each has its own rules, written twice."""

import random
from typing import Any

from lvs_dr.api import kinds, translate
from lvs_dr.core.objects import Invalid, VirtualService
from tests.api.crds.objects import Objects
from tests.api.crds.refusals import LABELS, manifest

NAMESPACE = "lvs-crds-combinations"
WALKS = 300
CHECKS = [
    *({kind: {}} for kind in ("tcp", "http", "https", "grpc", "ping")),
    *({kind: {"port": 80}} for kind in ("tcp", "http", "grpc")),
    {"udp": {"send": "x"}},
    {"udp": {"sendHex": "00", "port": 80}},
    {"udp": {}},
    {"dns": {"name": "."}},
    {"dns": {"name": ".", "port": 53}},
    {"exec": {"name": "check"}},
    *({kind: {}, "path": "VirtualAddress"} for kind in ("tcp", "http", "ping")),
    {"tcp": {}, "path": "RealAddress"},
    {"tcp": {}, "ping": {}},
    {"tcp": {}, "fastIntervalSeconds": 1},
    {"tcp": {}, "intervalSeconds": 3, "timeoutSeconds": 2, "fastIntervalSeconds": 4},
    {"http": {"expectedStatuses": ["200", "300-299"]}},
    {"http": {"method": "HEAD", "bodyContains": "ok"}},
]


def maybe(dice: random.Random, **choices: Any) -> dict[str, Any]:
    """Some of the fields, each with one of its values."""
    return {field: dice.choice(values) for field, values in choices.items() if dice.random() < 0.4}


def a_tunnel(dice: random.Random) -> dict[str, Any]:
    """A tunnel, sensible or not."""
    return {"type": dice.choice(["IPIP", "GRE", "GUE"])} | maybe(
        dice, port=[6080], checksum=["None", "Checksum", "RemoteChecksum"]
    )


def a_spec(dice: random.Random) -> dict[str, Any]:
    """A VirtualService that says something about everything, sensible or not."""
    methods = ["DirectRouting", "Tunnel", "Masquerade", "Redirect"]
    port = {"port": dice.choice([53, 80])} | maybe(dice, protocol=["TCP", "UDP", "UDP"], targetPort=[8080])
    overrides = [
        {"name": name}
        | maybe(dice, forwardingMethod=methods, tunnel=[a_tunnel(dice)], weight=[0, 7])
        | maybe(dice, connectionLimits=[{"upper": 5}, {"upper": 5, "lower": 6}, {"upper": 6, "lower": 5}])
        for name in ("web-1", "web-2")
        if dice.random() < 0.3
    ]
    which = dice.choice([{"ports": [port]}] * 4 + [{"anyPort": True}, {"firewallMark": 7}, {}])
    return (
        {
            "address": dice.choice(["192.0.2.10", "2001:db8::10"]),
            "realServers": {"selector": LABELS} | ({"overrides": overrides} if overrides else {}),
        }
        | which
        | maybe(
            dice,
            anyPort=[False],
            anyPortProtocols=[["UDP"], ["TCP", "UDP"]],
            scheduler=["sh", "mh"],
            onePacket=[True, False],
            forwardingMethod=methods,
            tunnel=[a_tunnel(dice)],
            redirect=[{}, {"port": 8080}, {"host": "Hostname", "methods": ["PUT"]}],
        )
        | maybe(
            dice,
            schedulerFlags=[["sh-port"], ["mh-port"], ["sh-port", "sh-fallback"]],
            persistence=[{}, {"prefixLength": 24}, {"prefixLength": 64}, {"engine": "sip"}],
            healthCheck=CHECKS,
            sorryServer=[
                {"realServer": "sorry"} | maybe(dice, port=[80], forwardingMethod=methods, tunnel=[a_tunnel(dice)]),
                {"address": "192.0.2.9"},
                {},
            ],
            panicThresholdPercent=[50],
        )
    )


def test_the_api_server_accepts_what_parses_and_nothing_else(objects: Objects) -> None:
    """Else a service that is stored is never served, or one that could be served is refused."""
    dice = random.Random(7)
    outcomes: set[bool] = set()
    path = objects.path(kinds.VIRTUAL_SERVICE) + "?dryRun=All&fieldValidation=Strict"
    for _ in range(WALKS):
        spec = a_spec(dice)
        body = manifest(kinds.VIRTUAL_SERVICE, "any", spec)
        code, answer = objects.server.api("POST", path, body)
        assert code in (201, 422), answer
        parsed = translate.virtual_service(body)
        assert isinstance(parsed, VirtualService) == (code == 201), (spec, answer.get("message"), parsed)
        if isinstance(parsed, Invalid):
            texts = [cause["message"] for cause in answer["details"]["causes"]]
            assert any(text.rsplit(": ", 1)[-1] in parsed.message for text in texts), (texts, parsed.message)
        outcomes.add(code == 201)
    assert outcomes == {True, False}
