"""What each broker user may publish and read: roles, made into rules from the table of commands, and their formats."""
