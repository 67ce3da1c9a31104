"""I/O that no other unit has: the fleet API over HTTP, and what it asks of Kubernetes."""
