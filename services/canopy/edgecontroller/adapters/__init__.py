"""What edgecontroller does at Kubernetes."""
