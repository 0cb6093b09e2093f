"""Benchmarks of reward models on preference sets: official metric, alternatives, controls, intervals."""

from rewardhub.bench.benchmarks import BENCHMARKS as BENCHMARKS
from rewardhub.bench.controls import CONTROLS as CONTROLS
from rewardhub.bench.controls import control as control
from rewardhub.bench.report import Report as Report
from rewardhub.bench.runner import run as run
