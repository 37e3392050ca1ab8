"""What a number is worth: clocks, memory, environment, devices, parity."""
