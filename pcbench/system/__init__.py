"""The system the program runs in: signals, streams, environment, terminal."""
