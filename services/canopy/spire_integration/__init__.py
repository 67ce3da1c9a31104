"""Who may connect to the hub and say what there: the auth callout, joining and renewal, revocation, the audit."""
