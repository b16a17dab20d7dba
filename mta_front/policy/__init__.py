"""Where protocol meets store: our rules around the user's hooks."""
