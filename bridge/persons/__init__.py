"""The persons that each terminal should hold: they are checked, stored, and delivered until the terminal confirms.

A user's input becomes a `PersonPatch` (`schema`), its picture a photo that every terminal can read (`photos`). The
`service` stores changes in `transactions`, and `delivery` sends them.
"""
