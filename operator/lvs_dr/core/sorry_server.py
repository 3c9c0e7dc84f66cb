"""The sorry server of a service: judged like a real server, by its own forwarding method, and ready beforehand."""

from msgspec.structs import replace

from lvs_dr.core import resolve
from lvs_dr.core.decisions import Member, Verdict
from lvs_dr.core.forwarding import Method, method
from lvs_dr.core.objects import Invalid, Key, Metadata, Override, RealServer, RealServerState, VirtualService
from lvs_dr.core.reasons import Reason
from lvs_dr.core.resolve import Context, Judged


def judge_sorry_server(ctx: Context) -> Judged | None:
    """Return what to say of the service's sorry server, and where to send to; None when it wishes none."""
    wish = ctx.service.sorry_server
    if wish is None:
        return None
    key = Key(ctx.namespace, wish.name)
    if wish.address:
        if wish.address == ctx.address:
            text = f"{wish.address} is the VIP itself: a sorry server needs an address of its own"
            return Judged(Member(key, wish.address, "", Verdict(False, Reason.ADDRESS_IS_VIRTUAL, text)))
        bare = RealServer(Metadata(key, "", 0, ""), "", (wish.address,), 1, RealServerState.IN_SERVICE)
        return resolve.judge(_context(ctx, key), key, bare)
    known = ctx.world.real_servers.get(key)
    if known is None:
        text = f"there is no RealServer {wish.real_server} in namespace {ctx.namespace}: create it"
        return Judged(Member(key, "", "", Verdict(False, Reason.NO_REAL_SERVER, text)))
    if not isinstance(known, Invalid) and known.state is not RealServerState.IN_SERVICE:
        reason = Reason.MAINTENANCE if known.state is RealServerState.MAINTENANCE else Reason.DRAINING
        text = f"RealServer {wish.real_server} is in state {known.state}: it is no sorry server meanwhile"
        return Judged(Member(key, "", known.node_name, Verdict(False, reason, text)))
    return resolve.judge(_context(ctx, key), key)


def sorry_method(service: VirtualService) -> Method:
    """Return how directors pass packets on to the sorry server. Raises ValueError when there is none."""
    return method(service, _override(service))


def _override(service: VirtualService) -> Override:
    wish = service.sorry_server
    if wish is None:
        raise ValueError(f"VirtualService {service.meta.key} has no sorry server")
    return Override(wish.name, weight=1, forwarding=wish.forwarding, tunnel=wish.tunnel)


def _context(ctx: Context, key: Key) -> Context:
    """Return the context in which the sorry server is the table's only entry."""
    now = ctx.record.spec.sorry_server if ctx.record is not None else None
    known = {key.name: replace(now, weight=1)} if now is not None and now.real_server == key.name else {}
    return ctx._replace(overrides={key.name: _override(ctx.service)}, known=known, pending=frozenset())
