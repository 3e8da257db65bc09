"""A smaller one-step network out of a larger one: most channels of a trained U-Net do nothing.

Of the widest one's 2,176 channels behind a ReLU, 1,199 never left zero on 64 training pairs, the more the
coarser their grid. `prune` keeps of each convolution those that matter most to what follows, and of each
upsampling, which is linear and has no dead channels, the main components. What is lost a short training gets
back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ctenhance.enhancement.networks import DOWN, UP, Twin
from ctenhance.runtime.errors import InputError


def widths_of(network: Twin) -> list[list[int]]:
    """The outputs of each convolution, step by step, as `Twin` takes them."""
    found = [[_outputs(network, f"{name}.conv_{k}") for k in (0, 1)] for name in DOWN]
    for name in UP:
        raised = network.body.get_submodule(f"{name}.upsample.deconv").out_channels
        found.append([int(raised), *(_outputs(network, f"{name}.convs.conv_{k}") for k in (0, 1))])  # type: ignore[arg-type]
    return found


def _outputs(network: Twin, name: str) -> int:
    return int(network.body.get_submodule(f"{name}.conv").out_channels)  # type: ignore[arg-type]


def require_wider(source: Twin, target: Twin) -> None:
    """Raise InputError unless each convolution of `source` has at least the outputs of that of `target`."""
    pairs = zip(widths_of(source), widths_of(target), strict=True)
    if any(own < numbers for one, other in pairs for own, numbers in zip(one, other, strict=True)):
        raise InputError(
            "The weights to start from belong to a network that is narrower somewhere: choose its size, or "
            "other weights."
        )


@dataclass
class _Activity:
    """What a network's layers give on sample slices: the SD of each channel behind a ReLU by the name of its
    convolution, and the second moments of the channels of each upsampling."""

    spread: dict[str, torch.Tensor] = field(default_factory=dict)
    moments: dict[str, torch.Tensor] = field(default_factory=dict)


def prune(target: Twin, source: Twin, slices: torch.Tensor) -> None:
    """Give `target` what matters most of `source`, as seen on degraded `slices` `[batch, 3, y, x]`.

    Raises InputError where the source is narrower."""
    require_wider(source, target)
    activity = _look(source, slices)
    body = source.body
    weight = {name: value.detach() for name, value in body.named_parameters()}
    numbers = widths_of(target)
    own = widths_of(source)
    new = target.body.state_dict()
    every = torch.arange(body.final_conv.out_channels)

    def listened(name: str, outputs_first: bool = True, stop: int | None = None) -> torch.Tensor:
        """How strongly a layer listens to each of its inputs, or the first `stop` of them."""
        values = weight[f"{name}.weight"]
        values = values if outputs_first else values.transpose(0, 1)
        return values[:, :stop].square().sum((0, 2, 3))

    def chosen(name: str, number: int, *listeners: torch.Tensor) -> torch.Tensor:
        score = activity.spread[name].square() * torch.stack(listeners).sum(0)
        return score.topk(number).indices.sort().values

    def put(
        name: str, outputs: torch.Tensor, inputs: torch.Tensor, values: torch.Tensor | None = None
    ) -> None:
        values = weight[f"{name}.weight"] if values is None else values
        new[f"{name}.weight"] = values[outputs][:, inputs].clone()
        new[f"{name}.bias"] = weight[f"{name}.bias"][outputs].clone()

    kept = torch.arange(body.get_submodule("conv_0.conv_0.conv").in_channels)  # type: ignore[arg-type]
    skips = []
    for level, (name, (first, second)) in enumerate(zip(DOWN, numbers, strict=False)):
        inside = chosen(f"{name}.conv_0", first, listened(f"{name}.conv_1.conv"))
        if level + 1 < len(DOWN):
            joined = f"{UP[-1 - level]}.convs.conv_0.conv"
            ears = [listened(f"{DOWN[level + 1]}.conv_0.conv"), listened(joined, stop=own[level][1])]
        else:
            ears = [listened(f"{UP[0]}.upsample.deconv", outputs_first=False)]
        outputs = chosen(f"{name}.conv_1", second, *ears)
        put(f"{name}.conv_0.conv", inside, kept)
        put(f"{name}.conv_1.conv", outputs, inside)
        kept = outputs
        skips.append(kept)
    skips.pop()
    for step, (name, (raised, first, second)) in enumerate(zip(UP, numbers[len(DOWN) :], strict=True)):
        inside = chosen(f"{name}.convs.conv_0", first, listened(f"{name}.convs.conv_1.conv"))
        if step + 1 < len(UP):
            ear = listened(f"{UP[step + 1]}.upsample.deconv", outputs_first=False)
        else:
            ear = listened("final_conv")
        outputs = chosen(f"{name}.convs.conv_1", second, ear)
        joins, lifts = f"{name}.convs.conv_0.conv", f"{name}.upsample.deconv"
        skip = own[len(UP) - 1 - step][1]
        upper = weight[f"{joins}.weight"][:, skip:]
        down, up = _components(activity.moments[name], upper, raised)
        new[f"{lifts}.weight"] = torch.einsum("no,ioyx->inyx", down, weight[f"{lifts}.weight"][kept])
        new[f"{lifts}.bias"] = down @ weight[f"{lifts}.bias"]
        values = [weight[f"{joins}.weight"][:, skips.pop()], torch.einsum("poyx,on->pnyx", upper, up)]
        joined_values = torch.cat(values, 1)
        put(joins, inside, torch.arange(joined_values.shape[1]), joined_values)
        put(f"{name}.convs.conv_1.conv", outputs, inside)
        kept = outputs
    put("final_conv", every, kept)
    target.body.load_state_dict(new)


def _components(
    moments: torch.Tensor, listener: torch.Tensor, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`down` `[number, channel]` and `up` `[channel, number]`, such that what `listener` makes of
    `up @ down @ y` is nearest to what it makes of `y`."""
    gram = torch.einsum("oiyx,ojyx->ij", listener, listener).double()
    values, vectors = torch.linalg.eigh(gram)
    root = vectors * values.clamp(min=1e-9 * float(values.max())).sqrt()
    _, main = torch.linalg.eigh(root.T @ moments @ root)
    main = main[:, -number:]
    return (main.T @ root.T).float(), torch.linalg.solve(root.T, main).float()


def _look(network: Twin, slices: torch.Tensor) -> _Activity:
    """What the layers of a network give on slices."""
    activity, hooks = _Activity(), []

    def spread(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            activity.spread[name] = output.std((0, 2, 3))

        return keep

    def moments(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            flat = output.transpose(0, 1).flatten(1).double()
            activity.moments[name] = flat @ flat.T / flat.shape[1]

        return keep

    for name, module in network.body.named_modules():
        if isinstance(module, nn.ReLU):
            hooks.append(module.register_forward_hook(spread(name.removesuffix(".adn.A"))))
        if isinstance(module, nn.ConvTranspose2d):
            hooks.append(module.register_forward_hook(moments(name.removesuffix(".upsample.deconv"))))
    with torch.no_grad():
        network.body(F.pixel_unshuffle(slices, 2))
    for hook in hooks:
        hook.remove()
    return activity
