"""`facebridge doctor`: checks of everything around the bridge. It does not disturb a running bridge.

Functions named `check_…` do I/O and return findings. Functions named `evaluate_…` are pure: they turn values that
others have read into findings. `checks.DoctorRun` runs all of them.
"""
