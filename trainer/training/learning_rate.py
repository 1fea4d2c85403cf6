"""The learning rate of each step."""

from __future__ import annotations

from trainer.training.recipe import Schedule

# Warm-up takes at most this share of a run's steps: a short run would otherwise end before it has learned at its rate.
WARMUP_SHARE = 0.1


def warmup_steps(schedule: Schedule, steps_per_epoch: int) -> int:
    """The recipe's warm-up, capped at a tenth of the run's steps."""
    return min(schedule.warmup_steps, int(schedule.epochs * steps_per_epoch * WARMUP_SHARE))


def learning_rate(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then lr (1 - i/T)^power of T epochs; i is the epoch or its fraction (Section IV-C)."""
    rising = warmup_steps(schedule, steps_per_epoch)
    warmup = min(1.0, (step + 1) / rising) if rising else 1.0
    epoch = step // steps_per_epoch if schedule.decay_by == "epoch" else step / steps_per_epoch
    return schedule.learning_rate * warmup * float((1 - epoch / schedule.epochs) ** schedule.decay_power)
