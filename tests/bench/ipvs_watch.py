"""Runs on a director: waits until its kernel has so many destinations, all with one weight; prints how many reads.

ipvs_watch.py ADDRESS SERVICES WEIGHT SECONDS
"""

import sys
import time

from lvs_dr.agent.kernel.ipvs import Ipvs
from lvs_dr.netlink import ipvs_decode, ipvs_encode
from lvs_dr.netlink.ipvs import FAMILY_NAME
from lvs_dr.netlink.socket import GenericNetlinkSocket

PAUSE_SECONDS = 0.2
REST = 4  # times as long as a read took: who watches must not be what is measured


def main() -> None:
    """Watch."""
    address, (services, weight, seconds) = sys.argv[1], map(int, sys.argv[2:])
    ipvs = Ipvs()
    end = time.monotonic() + seconds
    reads = 0
    weights: list[int] = []
    with GenericNetlinkSocket(FAMILY_NAME) as counter:
        while (began := time.monotonic()) < end:
            names = ipvs_decode.parse_services(counter.dump(ipvs_encode.get_services()))
            if sum(key.address == address for key in names) == services:
                weights = [
                    one.weight for key, one in ipvs.read().destinations.items() if key.service.address == address
                ]
                reads += 1
                if len(weights) == services and set(weights) == {weight}:
                    print(reads)
                    return
            time.sleep(max(PAUSE_SECONDS, REST * (time.monotonic() - began)))
    raise SystemExit(
        f"{len(names)} services, {len(weights)} destinations with weights {sorted(set(weights))[:5]} after {seconds} s"
    )


if __name__ == "__main__":
    main()
