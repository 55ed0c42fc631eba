"""Whom each terminal should hold, and getting them there: persons are checked, kept, and delivered until confirmed.

What a user gives becomes a `PersonPatch` (`person_schema`), its picture a photo that every terminal can read
(`photos`); the rest keeps them and delivers.
"""
