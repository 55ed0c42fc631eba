"""What tests share: a real broker, broken networks, small readers."""
