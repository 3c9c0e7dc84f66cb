"""When so many real servers fail at once that the checks, or the director, are more likely at fault: send to all.

As Envoy's panic threshold (docs/health.md). A panic only ever puts real servers in.
"""

from collections.abc import Sequence

from lvs_dr.core.health import Health

_MARGIN = 10  # of so many real servers one more must be healthy than the threshold says, until a panic is over


def panics(threshold: int, verdicts: Sequence[Health], *, already: bool) -> bool:
    """Tell whether the share of healthy ones is smaller than `threshold` percent (0: never).

    `verdicts`: of those that are to serve, that is with a weight. What is not known yet counts as healthy: a
    service that starts does not panic. `already`: it panics now; then it goes on until a tenth more are healthy, so
    that one that comes and goes does not change the weights of all. Of fewer than ten each is more than a tenth.
    """
    healthy, total = sum(1 for each in verdicts if each is not Health.DOWN), len(verdicts)
    if healthy == total or not threshold:
        return False
    margin = total // _MARGIN if already else 0
    return (healthy - margin) * 100 < threshold * total
