#!/usr/bin/env python3
"""A worker that records one run with the client for Python, in /usr/share/run-recorder/clients/python or clients/python of the source.

usage: PYTHONPATH=CLIENT worker.py [RUN_ID]     prints the run's id
"""
import sys

from run_recorder import flush, run

# Every event of the run renews it. It takes the place of the process where the daemon cannot see this one, in a container of another
# host; where it can, the process counts.
EXPIRES_S = 90


def main():
    run_id = sys.argv[1] if len(sys.argv) > 1 else None
    with run("example-py", run_id=run_id, input={"rows": 3}, expires_in=EXPIRES_S) as r:
        for row in range(1, 4):
            r.event("row_done", {"row": row}, progress={"done": row, "total": 3, "unit": "rows"})
        r.result = {"rows": 3}
    # A job's own end need not wait: what is not sent then is kept for the next. This one shows that it has arrived.
    flush(timeout=600)
    print(r.run_id)


if __name__ == "__main__":
    main()
