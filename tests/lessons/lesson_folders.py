"""lessons/build.py, and where the lessons are."""

import importlib.util
from pathlib import Path

LESSONS = Path(__file__).resolve().parents[2] / "lessons"

spec = importlib.util.spec_from_file_location("lessons_build", LESSONS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)
