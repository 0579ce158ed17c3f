"""Every job runs once, also after a killed process, and the table is the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from duopose.distributed.launch import ExitCode
from duopose.locks import STALE
from duopose.study.jobs import MAX_LOST, Job, JobFolder
from duopose.study.plan import make_plan
from duopose.study.report import status_text, write_report
from duopose.study.study_file import read_study
from duopose.study.worker import Worker

POLL = 0.05  # seconds


def start_worker(folder: Path) -> BaseProcess:
    """A worker in a process of its own."""

    def work() -> None:
        os._exit(Worker(folder, poll=POLL).work())

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def plan_into(folder: Path) -> None:
    make_plan(read_study(Path("study.yaml")), folder)


def result_lines(folder: Path) -> list[str]:
    """The report without the comments in its command blocks, which state CPU seconds."""
    page = write_report([folder], "command", resamples=20)
    return [line for line in page.splitlines() if not line.startswith("# ")]


def done_jobs(folder: Path) -> list[Job]:
    return JobFolder(folder).jobs("done")


def trainings() -> list[list[str]]:
    return [line.split() for line in Path("trainings.txt").read_text().splitlines()]


def test_two_workers_take_each_job_once(project: Path) -> None:
    plan_into(project / "out")
    workers = [start_worker(project / "out") for _ in range(2)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]

    jobs = done_jobs(project / "out")
    assert len(jobs) == 15 and all(len(job.attempts) == 1 for job in jobs)
    started = trainings()
    assert len(started) == len({line[0] for line in started}) == 6
    assert {int(line[1]) for line in started} <= {worker.pid for worker in workers}
    assert status_text(project / "out") == "todo 0, running 0, done 15, failed 0"


def test_a_killed_study_goes_on_and_gives_the_same_table(project: Path) -> None:
    plan_into(project / "whole")
    assert Worker(project / "whole", poll=POLL).work() == ExitCode.DONE
    whole = result_lines(project / "whole")
    Path("trainings.txt").unlink()

    plan_into(project / "killed")
    worker = start_worker(project / "killed")
    wait_for(lambda: len(JobFolder(project / "killed").files("done")) >= 4)
    Path("slow").touch()
    wait_for(lambda: any((project / "killed").glob("jobs/running/train-*")))
    (running,) = (project / "killed").glob("jobs/running/train-*")
    output = project / "killed" / "runs" / running.name[6:].partition("@")[0] / "output"
    wait_for(lambda: any(line[0] == str(output) for line in trainings()))
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    Path("slow").unlink()
    assert "running  train-" in status_text(project / "killed")

    assert Worker(project / "killed", poll=POLL).work() == ExitCode.DONE
    assert result_lines(project / "killed") == whole
    codes = [[a["exit_code"] for a in job.attempts] for job in done_jobs(project / "killed")]
    assert codes.count([None, 0]) == 1 and codes.count([0]) == 14
    assert "more than" in write_report([project / "killed"], "command", resamples=20)


def test_a_signal_puts_the_job_back(project: Path) -> None:
    Path("slow").touch()
    plan_into(project / "out")
    worker = start_worker(project / "out")
    wait_for(lambda: Path("trainings.txt").exists())
    worker.terminate()
    worker.join()
    assert worker.exitcode == ExitCode.STOPPED
    folder = JobFolder(project / "out")
    assert len(folder.files("todo")) == 15 and not folder.files("running")
    assert folder.jobs("todo")[0].attempts[0]["exit_code"] == ExitCode.STOPPED


def test_failed_jobs_fail_what_waits_for_them_and_can_be_tried_again(project: Path) -> None:
    Path("broken").touch()
    plan_into(project / "out")
    assert Worker(project / "out", poll=POLL).work() == ExitCode.USER_ERROR
    folder = JobFolder(project / "out")
    assert len(folder.files("failed")) == 15
    assert {job.attempts[0]["exit_code"] for job in folder.jobs("failed") if job.attempts} == {2}

    Path("broken").unlink()
    folder.retry_failed()
    assert Worker(project / "out", poll=POLL).work(max_jobs=1) == ExitCode.DONE
    assert len(folder.files("done")) == 1 and len(folder.files("todo")) == 14


def test_jobs_of_another_machine_are_returned_when_their_heartbeat_is_old(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.add(Job("train-x-s0", ["tools/valid.py"]))
    path = tmp_path / "jobs" / "running" / "train-x-s0@elsewhere@7.json"
    folder.path("todo", "train-x-s0").rename(path)
    path.touch()
    assert folder.return_lost_jobs() == []

    for number in range(1, MAX_LOST + 1):
        old = time.time() - STALE - 5
        os.utime(path, (old, old))
        assert folder.return_lost_jobs() == ["train-x-s0"]
        state = "todo" if number < MAX_LOST else "failed"
        (job,) = folder.jobs(state)
        assert [a["host"] for a in job.attempts] == number * ["elsewhere"]
        folder.path(state, "train-x-s0").rename(path)


def test_the_report_shows_mean_spread_difference_and_commands(project: Path) -> None:
    plan_into(project / "out")
    Worker(project / "out", poll=POLL).work()
    page = write_report([project / "out"], "make the page", resamples=20)
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line[:1] == "|"}
    cells = [cell.strip() for cell in rows["small"].split("|")[2:-1]]
    assert cells[:5] == ["0.860", "0.010", "3", "reference", ""] and cells[5] == "0.500"
    large = [cell.strip() for cell in rows["large"].split("|")[2:-1]]
    assert large[0] == "0.610" and -1 < float(large[3]) < -0.1
    low, high = map(float, large[4].split(".. "))
    assert low <= float(large[3]) <= high < 0
    assert float(large[6]) != float(large[7])

    assert "make the page" in page and "How tags matter." in page and "Code: abc." in page
    commands = [line for line in page.splitlines() if line.startswith("python tools/")]
    assert [line.split()[1] for line in commands] == [
        "tools/dist_train.py", "tools/valid.py", "tools/valid.py",
        "tools/dist_train.py", "tools/valid.py",
    ]  # fmt: skip
    assert commands[2].endswith("TEST.TAG_SIGMA 3.0 SEED 0")


def test_a_report_of_a_part_counts_its_seeds(project: Path) -> None:
    plan_into(project / "out")
    Worker(project / "out", poll=POLL).work(max_jobs=3)  # seed 0: one training, two evaluations
    rows = [line for line in result_lines(project / "out") if line.startswith("| ")]
    assert [row.split("|")[4].strip() for row in rows[1:]] == ["1 of 3", "1 of 3", "0 of 3"]
    assert json.loads(next((project / "out").glob("results/*/metrics.json")).read_text())
