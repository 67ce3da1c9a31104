"""Who is who: SPIFFE IDs, SVIDs and their sources, authorities, TLS that rotates, the words of NATS' auth callout.

The only door to cryptography, grpc, protobuf and nkeys. The bus, both identity units and the command line call it.
"""
