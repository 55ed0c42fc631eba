"""Access rules for broker users: roles, the rules made of them and the command table, and their formats."""
