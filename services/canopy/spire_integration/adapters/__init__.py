"""I/O that no other unit has: the HTTPS endpoint at which nodes join and renew."""
