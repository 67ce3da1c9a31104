"""edgeidentity: the node's own authority, the credentials of what runs on the node, and its leaf's configuration."""
