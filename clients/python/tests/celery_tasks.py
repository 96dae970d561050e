"""The application that test_celery.py runs."""
import os
import signal
import sys
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import Ignore, Reject

from run_recorder.celery import attach

folder = os.environ["CELERY_FOLDER"]
app = Celery("celery_tasks", broker=os.environ.get("CELERY_BROKER", "filesystem://"), backend=f"file://{folder}/results")
if "CELERY_BROKER" not in os.environ:
    app.conf.update(broker_transport_options={"data_folder_in": f"{folder}/in", "data_folder_out": f"{folder}/in",
                                              "processed_folder": f"{folder}/processed", "store_processed": True})
attach()


@app.task
def good():
    return {"rows": 3}


@app.task
def bad():
    raise ValueError("bad")


@app.task(bind=True, max_retries=3)
def again(self):
    if self.request.retries == 0:
        raise self.retry(exc=ValueError("not yet"), countdown=0)
    return 1


@app.task
def ignored():
    raise Ignore()


@app.task(bind=True)
def replaced(self):
    return self.replace(bad.s())


@app.task(acks_late=True)
def put_back():
    been = Path(os.environ["CELERY_FOLDER"], "been")
    if not been.exists():
        been.touch()
        raise Reject("again", requeue=True)
    return "second"


@app.task(acks_late=True)
def rejected():
    raise Reject("no", requeue=False)


@app.task(soft_time_limit=1)
def slow():
    time.sleep(1000)


@app.task
def dies():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def waits():
    time.sleep(1000)


@app.task(time_limit=1)
def hard():
    time.sleep(1000)


@app.task
def exits():
    sys.exit(3)
