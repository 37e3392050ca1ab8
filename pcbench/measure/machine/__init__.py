"""The machine a run is on: devices, builds, meters and what it can do at most."""
