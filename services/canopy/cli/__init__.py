"""The command line `canopy`: runs units, tells the demo, and speaks to the fleet API. Nothing imports it."""
