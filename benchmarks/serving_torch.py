"""PyTorch contestants of `serving`: the paper's architecture, and the networks of the recipes with the same numbers."""

import itertools
import os

os.environ.setdefault(
    "TORCHINDUCTOR_COMPILE_THREADS", "1"
)  # a contestant's process may have no children

import torch
from torch.nn.functional import conv2d, linear, logsigmoid, pad, relu, softplus

LEVELS = 256


def paper(event_size, hidden_units, num_couplings):
    """Plain NICE: even and odd coordinates, ReLU, logistic prior, one generator for the batch.

    Returns:
      Functions of x `[B, D]` and of the number of samples.
    """
    half = event_size // 2
    sizes = [half, *hidden_units, half]

    def network():
        layers = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    networks = [network() for _ in range(num_couplings)]
    log_scale = torch.zeros(event_size)

    def prior_log_prob(z):
        return (-softplus(z) - softplus(-z)).sum(dim=-1) + log_scale.sum()

    def log_prob(x):
        x = (x + 0.5) / LEVELS
        halves = [x[:, 0::2], x[:, 1::2]]
        for k, m in enumerate(networks):
            halves[1 - k % 2] = halves[1 - k % 2] + m(halves[k % 2])
        return prior_log_prob(torch.stack(halves, dim=-1).flatten(1) * log_scale.exp())

    def sample(batch):
        u = torch.rand(batch, event_size).clamp_min(1e-38)
        z = torch.log(u) - torch.log1p(-u)
        of_samples = prior_log_prob(z)
        h = z * torch.exp(-log_scale)
        halves = [h[:, 0::2], h[:, 1::2]]
        for k, m in reversed(list(enumerate(networks))):
            halves[1 - k % 2] = halves[1 - k % 2] - m(halves[k % 2])
        return torch.stack(halves, dim=-1).flatten(1) * LEVELS - 0.5, of_samples

    return log_prob, sample


def recipe(arrays):
    """`log_prob` of a nested flow behind marginals of integer levels, as one would write it here.

    What m sees is x itself, and the bin of a value is that value: nothing is searched.

    Args:
      arrays: of `serving_models.arrays_of`.

    Returns:
      A function of x `[B, D]`.
    """
    tables = {}
    for name in ("below", "above", "masses"):
        tables[name] = torch.from_numpy(arrays[name]).flatten()
    size = len(arrays["log_scale"])
    first_edge = torch.arange(size) * (LEVELS + 1)
    first_bin = torch.arange(size) * LEVELS
    mean = torch.from_numpy(arrays["mean"])
    deviation = float(arrays["deviation"])
    log_scale = torch.from_numpy(arrays["log_scale"])
    log_weights = torch.log_softmax(torch.from_numpy(arrays["logits"]), dim=-1)
    loc = torch.from_numpy(arrays["loc"])
    scale = torch.from_numpy(arrays["scale"])
    log_weights = log_weights - torch.log(scale)
    couplings = [_coupling(coupling) for coupling in arrays["couplings"]]

    def log_prob(x):
        x = x + 0.5
        level = x.long()
        t = x - level
        mass = tables["masses"][first_bin + level]
        below = tables["below"][first_edge + level] + mass * t
        above = tables["above"][first_edge + level + 1] + mass * (1 - t)
        z = torch.log(below) - torch.log(above)
        # The logistic density of z is below * above.
        of_map = torch.log(mass) - torch.log(below) - torch.log(above)
        total = of_map.sum(dim=-1) + size * torch.log(torch.tensor(float(LEVELS)))
        values = (x / LEVELS - mean) / deviation
        for seen, shifted, network in couplings:
            z = z.index_add(1, shifted, network(values[:, seen]))
        z = z * log_scale.exp()
        away = (z[..., None] - loc) / scale
        of_components = log_weights + logsigmoid(away) + logsigmoid(-away)
        return total + log_scale.sum() + torch.logsumexp(of_components, dim=-1).sum(dim=-1)

    return log_prob


def _coupling(arrays):
    seen = torch.from_numpy(arrays["seen"])
    shifted = torch.from_numpy(arrays["shifted"])
    if "source" in arrays:
        return seen, shifted, _convolutions(arrays)
    return seen, shifted, _perceptron(arrays)


def _perceptron(arrays):
    layers = []
    for kernel, bias in zip(arrays["kernels"], arrays["biases"], strict=True):
        layers.append((torch.from_numpy(kernel.T.copy()), torch.from_numpy(bias)))

    def network(h):
        for number, (weight, bias) in enumerate(layers):
            if number:
                h = relu(h)
            h = linear(h, weight, bias)
        return h

    return network


def _convolutions(arrays):
    source = torch.from_numpy(arrays["source"]).long()
    rows, columns, _ = source.shape
    source = source.permute(2, 0, 1).flatten()
    mask = torch.from_numpy(arrays["mask"]).permute(2, 0, 1)[None]
    target = torch.from_numpy(arrays["target"]).long()
    places = torch.from_numpy(arrays["places"]).permute(2, 0, 1)
    layers = []
    for kernel, bias in zip(arrays["kernels"], arrays["biases"], strict=True):
        weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
        layers.append((weight, torch.from_numpy(bias)))

    def convolved(h, layer):
        weight, bias = layers[layer]
        return conv2d(h, weight, bias, padding="same")

    def network(seen):
        values = pad(seen, (0, 1))[:, source].reshape(len(seen), -1, rows, columns)
        h = convolved(torch.cat([values, mask.expand(len(seen), -1, -1, -1)], dim=1), 0) + places
        for layer in range(1, len(layers) - 1, 2):
            h = h + convolved(relu(convolved(relu(h), layer)), layer + 1)
        last = convolved(relu(h), len(layers) - 1)
        return last.permute(0, 2, 3, 1).flatten(1)[:, target]

    return network
