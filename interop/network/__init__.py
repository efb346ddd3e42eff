"""The core of the suite over the conditions of real networks, made on this machine in network namespaces."""
