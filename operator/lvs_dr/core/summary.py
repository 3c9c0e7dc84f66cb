"""What is true of the users' objects: conditions, counts and Events, from the agents' reports."""

from lvs_dr.core.events import events
from lvs_dr.core.group_status import director_group_status
from lvs_dr.core.real_server_status import real_server_status
from lvs_dr.core.service_status import virtual_service_status

__all__ = ["director_group_status", "events", "real_server_status", "virtual_service_status"]
