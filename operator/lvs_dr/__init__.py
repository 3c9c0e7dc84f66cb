"""lvs-operator: LVS direct-routing clusters, declared in Kubernetes.

`core` decides, `controller` talks to Kubernetes, `agent` talks to the kernel (docs/architecture.md).
"""
