"""Prints the README's first program that trains a classifier."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

if __name__ == "__main__":
    programs = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    print(next(program for program in programs if "Classifier(" in program))
