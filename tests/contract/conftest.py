"""The kernels that the contract is held against.

On any machine: the fake. On a lab node, in a network namespace of its own with an interface eth0
(tests/kernel/test_kernel_contract.py starts it there): the real one.
"""

import os
from collections.abc import Iterator

import pytest

from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.kernel.protocol import Interface, Kernel
from tests.contract.fake_kernel import FakeKernel

REAL = os.environ.get("LVS_CONTRACT_KERNEL") == "real"


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """One kernel; what a test leaves in the real one ends with its namespace, so each test uses its own VIP."""
    if REAL:
        real = NodeKernel()
        yield real
        real.close()
        return
    fake = FakeKernel()
    fake.links["eth0"] = Interface(2, "eth0", "02:00:00:00:00:01", True, ("192.0.2.1/24", "2001:db8::1/64"))
    fake.gateways.add("192.0.2.254")
    yield fake
