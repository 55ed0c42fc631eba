"""A soak: a bridge, a broker and terminals under random faults, and checks of both promises."""
