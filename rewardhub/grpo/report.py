"""What a run leaves behind: the result as text, and the curves as PNG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardhub.grpo.supervised import Accuracy


@dataclass(frozen=True, slots=True)
class Trained:
    """One of the two ways to go on from the warm start: where it ended, and what it took.

    ``points`` are (step, accuracy on the reserved examples), the first at step 0, before training.
    ``seconds`` are of training alone, without evaluation.
    """

    points: Sequence[tuple[int, Accuracy]]
    seconds: float

    @property
    def start(self) -> Accuracy:
        return self.points[0][1]

    @property
    def end(self) -> Accuracy:
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class GrpoResult:
    """What a run achieved, and where its files are."""

    grpo: Trained
    control: Trained | None
    statuses: Mapping[str, int]
    reward_hidden_ms: float
    reward_exposed_ms: float
    log: Path
    curves: Path
    policy: Path

    @property
    def gain(self) -> float:
        """Sampled accuracy on reserved examples, end less start."""
        return self.grpo.end.sampled - self.grpo.start.sampled

    def summary(self) -> str:
        """A table of accuracies, then the wait for rewards, the statuses and the files."""
        lines = [
            "accuracy on reserved examples    sampled   greedy   seconds",
            _line("warm start", self.grpo.start, None),
            _line(f"+ {self.grpo.points[-1][0]} steps of GRPO", self.grpo.end, self.grpo.seconds),
        ]
        if self.control:
            steps = self.control.points[-1][0]
            lines.append(_line(f"+ {steps} steps of SFT (control)", self.control.end, self.control.seconds))
            lines.append("the control is shown the right answers; GRPO only hears how its own answers score")
        lines += [
            f"reward wait: {self.reward_hidden_ms:.0f} ms hidden, {self.reward_exposed_ms:.0f} ms exposed",
            "scores: " + ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items())),
            f"log {self.log}\ncurves {self.curves}\npolicy {self.policy}",
        ]
        return "\n".join(lines)


def _line(name: str, accuracy: Accuracy, seconds: float | None) -> str:
    took = "" if seconds is None else f"{seconds:10.1f}"
    return f"{name:<31}{accuracy.sampled:9.3f}{accuracy.greedy:9.3f}{took}"


def draw_curves(path: Path, steps: Sequence[Mapping[str, Any]], grpo: Trained, control: Trained | None) -> None:
    """A PNG of four panels by step: accuracy, rewards, groups without signal, and the wait for rewards."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    accuracy, reward, signal, wait = figure.subplots(2, 2, sharex=True).flat
    x = [row["step"] for row in steps]
    accuracy.plot(x, [row["sampled_accuracy"] for row in steps], color="0.8", label="rollouts, sampled")
    for name, trained, colour in (("GRPO", grpo, "C0"), ("SFT control", control, "C1")):
        for kind, style in (("sampled", "-"), ("greedy", ":")) if trained else ():
            points = [(step, getattr(value, kind)) for step, value in trained.points] if trained else []
            accuracy.plot(*zip(*points, strict=True), style, color=colour, label=f"{name}, reserved, {kind}")
    reward.plot(x, [row["reward"] for row in steps], color="0.3", label="total")
    for name in sorted({name for row in steps for name in row["parts"]}):
        reward.plot(x, [row["parts"].get(name) for row in steps], label=name)
    signal.plot(x, [row["zero_std_share"] for row in steps], color="C3", label="all rewards equal")
    wait.plot(x, [row["reward_hidden_ms"] for row in steps], color="C2", label="hidden behind generation")
    wait.plot(x, [row["reward_exposed_ms"] for row in steps], color="C3", label="exposed")
    for axes, unit in (
        (accuracy, "accuracy (share right)"), (reward, "mean reward"),
        (signal, "share of groups"), (wait, "wait for rewards (ms per step)"),
    ):  # fmt: skip
        axes.set(xlabel="step", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    for share in (accuracy, signal):
        share.set_ylim(-0.02, 1.02)
    FigureCanvasAgg(figure).print_png(str(path))
