"""The cloud end of the link, and the trust boundary: what comes from a node is checked here, and nowhere after."""
