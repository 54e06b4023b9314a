"""Benchmarks run as scripts, and the tables that they write."""

import csv
import sys


def run(monkeypatch, module, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))
