"""What users write: pydantic models of the specs of VirtualService, RealServer and DirectorGroup.

They are the one definition of the user kinds: the CRDs (schema, CEL rules, descriptions), the field reference and
the translation to `core` are all made from them.
"""

from lvs_dr.api.models.director_group import DirectorGroupSpec
from lvs_dr.api.models.forwarding import ConnectionLimits, RealServerOverride, Tunnel
from lvs_dr.api.models.health_check import HealthCheck
from lvs_dr.api.models.quorum import Quorum
from lvs_dr.api.models.real_server import RealServerSpec
from lvs_dr.api.models.sorry_server import SorryServer
from lvs_dr.api.models.virtual_service import VirtualServiceSpec

__all__ = [
    "ConnectionLimits",
    "DirectorGroupSpec",
    "HealthCheck",
    "Quorum",
    "RealServerOverride",
    "RealServerSpec",
    "SorryServer",
    "Tunnel",
    "VirtualServiceSpec",
]
