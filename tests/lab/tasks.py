"""Tasks for a real Celery in the lab. BROKER_URL is the URL of the broker."""

import os
import time

from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER_URL"], backend=None)
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = {"priority_steps": [0, 3, 6, 9], "queue_order_strategy": "priority"}
app.conf.beat_schedule = {"every-hour": {"task": "tasks.quick", "schedule": 3600.0}}


@app.task
def quick():
    return 1


@app.task
def nap(seconds):
    time.sleep(seconds)


@app.task
def eat():
    """Grows until the kernel kills this process."""
    allocated = []
    while True:
        allocated.append(bytearray(1 << 20))


if __name__ == "__main__":
    import sys

    # tasks.py NAME COUNT [PRIORITY] [COUNTDOWN] [ARGUMENT...]
    name, count = sys.argv[1], int(sys.argv[2])
    priority = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    countdown = float(sys.argv[4]) if len(sys.argv) > 4 else 0
    arguments = [float(a) for a in sys.argv[5:]]
    with app.connection_for_write() as connection:
        for _ in range(count):
            app.send_task(f"tasks.{name}", args=arguments, priority=priority, countdown=countdown or None, connection=connection)
