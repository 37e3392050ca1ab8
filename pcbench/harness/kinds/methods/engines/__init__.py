"""What serving engines do in suites of methods."""
