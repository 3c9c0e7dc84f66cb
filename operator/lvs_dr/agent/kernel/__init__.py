"""The only door to the node's kernel: IPVS, addresses, routes, interfaces, sysctls, events."""
