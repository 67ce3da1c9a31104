"""A small Kubernetes-style API server over SQLite: the embedded cloud API of a one-command start. See README.md."""
