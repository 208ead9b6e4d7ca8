"""Contestants on PyTorch; see `contest`. All share one prior, whose trainable scales stand for the scaling layer."""

import itertools
import math
import os

os.environ.setdefault(
    "TORCHINDUCTOR_COMPILE_THREADS", "1"
)  # a contestant's process may have no children

import numpy as np
import torch
from torch.nn.functional import relu, softplus


class LogisticPrior(torch.nn.Module):
    """Of h = z / s, z standard logistic: log p(h) = sum_d log p_Z(s_d h_d) + log s_d."""

    def __init__(self, event_size):
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.zeros(event_size))

    def log_prob(self, h):
        """Nats of each row."""
        z = h * self.log_scale.exp()
        return self.log_scale.sum() - (softplus(z) + softplus(-z)).sum(dim=-1)

    def sample(self, num_samples):
        """Rows of h."""
        device = self.log_scale.device
        u = torch.rand(num_samples, len(self.log_scale), device=device).clamp_min(1e-38)
        return (torch.log(u) - torch.log1p(-u)) * torch.exp(-self.log_scale)


def _cosine(number, warmup, num_steps):
    """The share of the learning rate at a step."""
    rise = min(1.0, (number + 1) / max(1, warmup))
    return rise * 0.5 * (1 + math.cos(math.pi * number / num_steps))


def _network(shape):
    layers = []
    for fan_in, fan_out in itertools.pairwise(shape.widths):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


class Plain:
    """NICE in plain PyTorch, and what all contestants here share: the step, the noise, the
    optimizer.
    """

    def __init__(self, contestant, shape, *, device="cpu"):
        self._compiled, self._shape = contestant.compiled, shape
        self._device = device
        self._autocast = torch.autocast(
            device, torch.bfloat16, enabled=contestant.precision == "bfloat16"
        )
        self._prior = LogisticPrior(shape.event_size)
        self._module = self._make_module().to(device)
        size = sum(parameter.numel() for parameter in self._module.parameters())
        if size != shape.num_parameters:
            raise ValueError(f"{size} parameters instead of {shape.num_parameters}")

    def training_step(
        self,
        values,
        batch,
        *,
        rate=1e-3,
        warmup=0,
        decay=0.0,
        beta_2=0.99,
        epsilon=1e-4,
        num_steps=None,
    ):
        """From 8-bit integers to new weights.

        Args:
          values: all training examples, `[N, D]`.
          batch: examples per step.
          rate: learning rate.
          warmup: steps over which it rises to that.
          decay: decoupled weight decay of the kernels, times the learning rate.
          beta_2: of Adam.
          epsilon: of Adam.
          num_steps: over which the rate falls to 0 as a cosine; `None` for a constant one.
        """
        device = self._device
        data = torch.tensor(values, device=device)
        fused = True if self._compiled else None
        kernels = [p for p in self._module.parameters() if p.ndim == 2]
        others = [p for p in self._module.parameters() if p.ndim != 2]
        groups = [{"params": kernels, "weight_decay": decay}, {"params": others}]
        optimizer = torch.optim.AdamW(
            groups, rate, betas=(0.9, beta_2), eps=epsilon, fused=fused, weight_decay=0.0
        )
        schedule = None
        if num_steps is not None:
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda number: _cosine(number, warmup, num_steps)
            )
        log_prob = self._log_prob
        if self._compiled:
            # "reduce-overhead" is CUDA graphs.
            mode = "default" if device == "cpu" else "reduce-overhead"
            log_prob = torch.compile(log_prob, mode=mode)

        def step():
            rows = torch.randint(len(data), [batch], device=device)
            x = (data[rows] + torch.rand(batch, data.shape[1], device=device)) / 256
            optimizer.zero_grad()
            with self._autocast:
                loss = -log_prob(x).mean()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            return loss.detach()

        return step

    @torch.no_grad()
    def mean_log_prob(self, values, batch):
        """Nats per example of 8-bit integers `[N, D]` on the device, with fresh noise."""
        total = 0.0
        for part in values.split(batch):
            x = (part + torch.rand(part.shape, device=part.device)) / 256
            total += float(self._log_prob(x).sum())
        return total / len(values)

    def log_prob(self, batch):
        """A call that scores a batch, ending with NumPy."""
        x = torch.from_numpy(
            np.random.default_rng(0).random([batch, self._shape.event_size], np.float32)
        )
        score = self._inference(self._log_prob)
        return lambda: score(x).numpy()[0]

    def sample(self, batch):
        """A call that draws a batch, ending with NumPy."""
        draw = self._inference(self._sample)
        return lambda: draw(batch).float().numpy()[0, 0]

    def _inference(self, function):
        function = torch.compile(function, dynamic=False) if self._compiled else function

        @torch.inference_mode()
        def call(argument):
            with self._autocast:
                return function(argument)

        return call

    def _make_module(self):
        self._networks = torch.nn.ModuleList(
            _network(self._shape) for _ in range(self._shape.couplings)
        )
        return torch.nn.ModuleList([self._networks, self._prior])

    def _log_prob(self, x):
        halves = [x[:, 0::2], x[:, 1::2]]
        for k, m in enumerate(self._networks):
            halves[1 - k % 2] = halves[1 - k % 2] + m(halves[k % 2])
        return self._prior.log_prob(torch.stack(halves, dim=-1).flatten(1))

    def _sample(self, batch):
        h = self._prior.sample(batch)
        halves = [h[:, 0::2], h[:, 1::2]]
        for k, m in reversed(list(enumerate(self._networks))):
            halves[1 - k % 2] = halves[1 - k % 2] - m(halves[k % 2])
        return torch.stack(halves, dim=-1).flatten(1)


class NormFlows(Plain):
    """normflows: `AffineCouplingBlock` without scales, and swaps."""

    def _make_module(self):
        import normflows

        class Base(normflows.distributions.BaseDistribution):
            def __init__(self, prior):
                super().__init__()
                self.prior = prior

            def forward(self, num_samples=1):
                z = self.prior.sample(num_samples)
                return z, self.prior.log_prob(z)

            def log_prob(self, z):
                return self.prior.log_prob(z)

        flows = []
        for _ in range(self._shape.couplings):
            flows.append(normflows.flows.AffineCouplingBlock(_network(self._shape), scale=False))
            flows.append(normflows.flows.Permute(self._shape.event_size, mode="swap"))
        self._flow = normflows.NormalizingFlow(Base(self._prior), flows[:-1])
        return self._flow

    def _log_prob(self, x):
        return self._flow.log_prob(x)

    def _sample(self, batch):
        return self._flow.sample(batch)[0]


class Zuko(Plain):
    """zuko: `NICE` with `AdditiveTransform`."""

    def _make_module(self):
        import zuko

        class Logistic(torch.distributions.Distribution):
            has_rsample = True

            def __init__(self, prior):
                super().__init__(event_shape=prior.log_scale.shape, validate_args=False)
                self.prior = prior

            def log_prob(self, value):
                return self.prior.log_prob(value)

            def rsample(self, sample_shape=()):
                return self.prior.sample(*sample_shape)

        class Base(zuko.lazy.LazyDistribution):
            def __init__(self, prior):
                super().__init__()
                self.prior = prior

            def forward(self, c=None):
                return Logistic(self.prior)

        self._flow = zuko.flows.NICE(
            self._shape.event_size,
            transforms=self._shape.couplings,
            univariate=zuko.transforms.AdditiveTransform,
            shapes=((),),
            hidden_features=self._shape.widths[1:-1],
        )
        self._flow.base = Base(self._prior)
        return self._flow

    def _log_prob(self, x):
        return self._flow().log_prob(x)

    def _sample(self, batch):
        return self._flow().sample((batch,))


class NFlows(Plain):
    """nflows: `AdditiveCouplingTransform` with alternating masks."""

    def _make_module(self):
        import nflows.distributions
        import nflows.flows
        import nflows.nn.nets
        import nflows.transforms

        class Base(nflows.distributions.Distribution):
            def __init__(self, prior):
                super().__init__()
                self.prior = prior

            def _log_prob(self, inputs, context):
                return self.prior.log_prob(inputs)

            def _sample(self, num_samples, context):
                return self.prior.sample(num_samples)

        class Network(nflows.nn.nets.MLP):
            def forward(self, inputs, context=None):
                return super().forward(inputs)

        def network(size_in, size_out):
            return Network([size_in], [size_out], self._shape.widths[1:-1], activation=relu)

        masks = [
            torch.arange(self._shape.event_size) % 2 == k % 2 for k in range(self._shape.couplings)
        ]
        couplings = [
            nflows.transforms.AdditiveCouplingTransform(mask.int(), network) for mask in masks
        ]
        self._flow = nflows.flows.Flow(
            nflows.transforms.CompositeTransform(couplings), Base(self._prior)
        )
        return self._flow

    def _log_prob(self, x):
        return self._flow.log_prob(x)

    def _sample(self, batch):
        return self._flow.sample(batch)


class Matmul:
    """The matrix products of a training step alone, weights already in the precision: the roof."""

    def __init__(self, contestant, shape):
        self._dtype, self._shape = getattr(torch, contestant.precision), shape

    def training_step(self, values, batch):
        """Forward, and for each weight the two products of the backward pass; none for the gradient
        of the data.
        """
        sizes = list(itertools.pairwise(self._shape.widths)) * self._shape.couplings
        kernels = [
            (torch.randn(size[::-1]) * size[0] ** -0.5).to(self._dtype) for size in sizes
        ]  # [out, in]
        x = torch.randn(batch, self._shape.half).to(self._dtype)

        @torch.inference_mode()
        def step():
            inputs = [x]
            for kernel in kernels:
                inputs.append(inputs[-1] @ kernel.T)
            gradient = inputs.pop()
            for layer, kernel in reversed(list(enumerate(kernels))):
                of_kernel = gradient.T @ inputs[layer]
                if layer > 0:
                    gradient = gradient @ kernel
            return of_kernel[0, 0]

        return step
