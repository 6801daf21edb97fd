"""Set-up of a clone: `.venv`, the Horovod wheel, Delta's jars. Standard library only; run by `make setup`."""
