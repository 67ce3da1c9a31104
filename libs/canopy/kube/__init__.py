"""The door to Kubernetes: calls (api, client), cached sets (informer), one writer (leader). For adapters."""
