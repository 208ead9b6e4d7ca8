"""zuko's neural spline flow on a table, in a process of its own: PyTorch and TensorFlow do not go together in one.

    python benchmarks/spline_flow.py INPUT.npz OUTPUT.npz

`tables.py` starts it. Autoregressive, three transforms of eight bins, columns in deviations of train.
"""

import copy
import sys

import numpy as np
import torch
import zuko

TRANSFORMS = 3
BINS = 8
HIDDEN = (128, 128)
LEARNING_RATE = 1e-3
EPOCHS = 300
PATIENCE = 30


def fit(
    train: np.ndarray, widths: np.ndarray, validation: np.ndarray, *, batch_size: int, seed: int
):
    """Trains a flow, every visit of a row with fresh noise on its discrete values.

    Args:
      train: rows in the table's units, without noise, `[N, D]`.
      widths: over which each value is spread, 0 for continuous ones, `[N, D]`.
      validation: dequantized rows, `[M, D]`.
      batch_size: rows per step.
      seed: of weights, noise and order.

    Returns:
      The log-density, a function of rows `[n, D]` in float64 to nats, `[n]`; mean nats of the
      validation rows; and the epoch, the best on these.
    """
    torch.manual_seed(seed)
    noisy_deviations = np.sqrt(train.var(axis=0) + np.mean(widths**2, axis=0) / 12)
    loc = torch.tensor(train.mean(axis=0))
    scale = torch.tensor(noisy_deviations)
    rows = torch.tensor(train)
    widths = torch.tensor(widths)
    flow = zuko.flows.NSF(train.shape[1], transforms=TRANSFORMS, bins=BINS, hidden_features=HIDDEN)
    optimizer = torch.optim.Adam(flow.parameters(), LEARNING_RATE)

    def standardized(x):
        return ((x - loc) / scale).float()

    @torch.inference_mode()
    def log_prob(x):
        parts = []
        for part in torch.tensor(x).split(4096):
            parts.append(flow().log_prob(standardized(part)).double() - scale.log().sum())
        return torch.cat(parts).numpy()

    best = -np.inf
    best_epoch = 0
    best_weights = None
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(len(rows))
        for start in range(0, len(rows) - batch_size + 1, batch_size):
            places = order[start : start + batch_size]
            batch = rows[places]
            noise = (torch.rand(batch.shape, dtype=torch.float64) - 0.5) * widths[places]
            loss = -flow().log_prob(standardized(batch + noise)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = float(log_prob(validation).mean())
        if found > best:
            best = found
            best_epoch = epoch
            best_weights = copy.deepcopy(flow.state_dict())
        if epoch - best_epoch >= PATIENCE:
            break
    flow.load_state_dict(best_weights)
    return log_prob, best, best_epoch


def main() -> None:
    """From arrays to the test rows' mean nats over the draws of their noise."""
    given = np.load(sys.argv[1])
    log_prob, validation, epoch = fit(
        given["train"],
        given["widths"],
        given["validation"],
        batch_size=int(given["batch_size"]),
        seed=int(given["seed"]),
    )
    rows = np.mean([log_prob(x) for x in given["test"]], axis=0)
    np.savez(sys.argv[2], rows=rows, validation=validation, epoch=epoch)


if __name__ == "__main__":
    main()
