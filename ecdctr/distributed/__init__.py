"""Ranks that work together: the collective operations, and how ranks are started and spoken to."""
