import os
import signal

from tests.processes import Ended, side_by_side


def work(task, out):
    if task == "hangs":
        signal.pause()
    if task == "crashes":
        out.send("before")
        os._exit(7)
    for number in range(task):
        out.send(number)


def test_messages_come_and_ends_are_told():
    found = {}
    for task, message in side_by_side([3, "crashes", "hangs", 0], work, 5.0):
        found.setdefault(task, []).append(message)
    assert found == {
        3: [0, 1, 2, Ended(False, 0)],
        "crashes": ["before", Ended(False, 7)],
        "hangs": [Ended(True, -signal.SIGKILL)],
        0: [Ended(False, 0)],
    }
