"""What devicecontroller does at Kubernetes."""
