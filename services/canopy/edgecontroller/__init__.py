"""Each edge node that joins becomes a Node in Kubernetes: Ready while it is heard, its Lease renewed."""
