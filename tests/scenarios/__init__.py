"""Whole stories with real worker processes: killed, frozen, disconnected, and what is left then."""
