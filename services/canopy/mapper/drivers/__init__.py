"""The drivers that come with Canopy. Others are packages with an entry point in `canopy.drivers`, or one file."""
