"""The mapper: device protocols on a node, one driver each. `sdk` is what a driver's author reads; the rest runs it."""
