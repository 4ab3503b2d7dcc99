"""Send the task, look at once, wait, and look again."""

from longtime.tasks import longtime_add

result = longtime_add.delay(1, 2)
print("Task finished?", result.ready())
print("Task result:", result.result)

result.get(timeout=60)
print("Task finished?", result.ready())
print("Task result:", result.result)
