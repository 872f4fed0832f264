"""The command line `roundelay`."""
