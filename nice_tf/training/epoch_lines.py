"""What is printed of the epochs while a run trains."""

import time

import tf_keras
from tqdm import tqdm


class EpochLines(tf_keras.callbacks.Callback):
    """A line per epoch with its numbers, and while it lasts a moving bar, if one is wanted.

    Keras's own line writes every number below 0.001 with an exponent, which is each log-likelihood
    of most tables, and counts as 27.0000.
    """

    def __init__(self, *, has_bar: bool):
        """Takes whether a bar moves within an epoch, as on a terminal."""
        super().__init__()
        self._has_bar = has_bar
        self._bar: tqdm | None = None
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock and the bar (Keras counts from 0, all that we write from 1)."""
        self._started = time.perf_counter()
        if self._has_bar:
            title = f"Epoch {epoch + 1}/{self.params['epochs']}"
            self._bar = tqdm(total=self.params["steps"], desc=title, unit=" steps", leave=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Moves the bar; a call of several steps ends with the number of its last."""
        if self._bar:
            self._bar.set_postfix_str(_text(logs), refresh=False)
            self._bar.update(batch + 1 - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Prints the line."""
        self._close()
        seconds = time.perf_counter() - self._started
        title = f"Epoch {epoch + 1}/{self.params['epochs']}"
        print(f"{title} - {seconds:.1f} s - {_text(logs)}", flush=True)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Takes a bar away that an epoch without an end has left."""
        self._close()

    def _close(self):
        if self._bar:
            self._bar.close()
            self._bar = None


def _text(logs):
    """Names and numbers: nats and bits with four decimals, counts as they are."""
    parts = []
    for name, value in logs.items():
        if isinstance(value, int):
            parts.append(f"{name}: {value}")
        else:
            parts.append(f"{name}: {float(value):.4f}")
    return " - ".join(parts)
