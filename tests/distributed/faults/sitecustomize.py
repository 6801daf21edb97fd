"""Teaches the ranks of these tests a task that fails; on their PYTHONPATH alone."""

try:
    from ecdctr.distributed.tasks import MODULES
except ModuleNotFoundError:
    pass
else:
    MODULES["fault"] = "fault_tasks"
