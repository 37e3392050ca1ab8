"""Generated prompts: seeded, offline, exact to the token."""
