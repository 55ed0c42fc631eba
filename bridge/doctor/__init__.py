"""`facebridge doctor`: looks at everything around the bridge, beside a running one without disturbing it.

Probes ask (`probe`, `trials`, `listening`, `running_bridge`, …) and judges say what the answers mean, in words for
people; `examination` runs them, each for itself.
"""
