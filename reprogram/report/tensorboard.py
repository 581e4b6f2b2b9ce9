"""``logger=tensorboard``: losses, final metrics and the learned prompt as TensorBoard events in ``run_dir/tensorboard``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprogram.errors import ConfigError
from reprogram.hooks import Hook, Run

if TYPE_CHECKING:
    from reprogram.interfaces import TargetTask
    from reprogram.model import ReprogrammedModel


class TensorBoard(Hook):
    """Look at several runs side by side with ``tensorboard --logdir outputs``."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("logger=tensorboard needs its package: pip install 'reprogram[tensorboard]'.") from error
        self._make = SummaryWriter
        self._writer: Any = None

    def _events(self, run: Run) -> Any:
        if self._writer is None:
            self._writer = self._make(str(run.dir / "tensorboard"))
        return self._writer

    def on_epoch_end(self, run: Run, model: ReprogrammedModel, epoch: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            if name != "epoch":
                self._events(run).add_scalar(f"train/{name}", value, epoch + 1)
        self._events(run).flush()

    def on_fit_end(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        from reprogram.report.pictures import prompt

        events = self._events(run)
        rows = {"program": run.result.data.get("metrics", {})} | run.result.data.get("baselines", {})
        for row, metrics in rows.items():
            for name, metric in metrics.items():
                if metric.get("value") is not None:
                    events.add_scalar(f"{name}/{row}", metric["value"], 0)
        for view, (image, _) in enumerate(prompt(model)):
            events.add_image(f"program/view_{view}", image.clamp(0, 1), 0)
        events.close()
