"""`pcbench check`: every op of a device's backend against the float64 reference."""
