"""What is tried for real, and takes minutes: ``make trials``."""
