from tests.one_thread import torch_on_one_thread  # noqa: F401 (a fixture of all tests here)
