"""One function per job: what a command or a scheduler calls."""
