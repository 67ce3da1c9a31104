"""Messages of SPIRE's server API and of the SPIFFE Workload API: the fields that we use, generated once.

Message and field numbers are public contracts of theirs. After an edit of a .proto, in a venv with grpcio-tools:
`python -m grpc_tools.protoc -I libs --python_out=libs --pyi_out=libs libs/canopy/identity/proto/*.proto`.
"""
