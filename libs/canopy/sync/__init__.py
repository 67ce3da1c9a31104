"""The sync of the link, pure: sets and their hashes, pages and pushes, states upward, sessions, the ingest position.

No I/O, no clock: whoever calls brings the time and the stored state, and carries out what is decided.
"""
