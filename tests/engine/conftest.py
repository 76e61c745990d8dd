"""The models of these tests are so small that a second thread only waits for the first."""

import os

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
    yield
    torch.set_num_threads(threads)
    del os.environ["OMP_NUM_THREADS"]
