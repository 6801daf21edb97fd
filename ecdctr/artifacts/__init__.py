"""Immutable versions on disk: written aside, digested, then moved into place."""
