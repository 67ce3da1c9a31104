"""EdgeHub: the edge end of the link. It keeps the session, carries asks up and pushes down, and stores nothing."""
