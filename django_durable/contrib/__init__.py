"""Additions that stand beside the engine; each one is imported by name."""
