"""MetaManager: the local copy of what should be, kept equal to the cloud's, served to this node's units."""
