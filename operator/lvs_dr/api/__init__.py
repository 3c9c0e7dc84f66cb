"""The Kubernetes API of the operator: what users write, its CRDs, and its translation to `core`."""
