"""A smaller one-step network out of a larger one."""

import pytest
import torch

from ctenhance.enhancement.networks import Twin
from ctenhance.enhancement.pruning import prune, widths_of
from ctenhance.runtime.errors import InputError

FEATURES = (8, 12, 16, 16, 16, 8)
#: What is left of the features, with dead channels taken out; the upsamplings keep theirs but for the first.
WIDTHS = [[8, 6], [9, 12], [10, 11], [12, 9], [8, 7], [5, 9, 8], [8, 10, 9], [8, 7, 12], [12, 8, 6]]


def slices(seed: int) -> torch.Tensor:
    return torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(seed)) / 3


def network_with_dead_channels() -> Twin:
    """A network that needs no more than `WIDTHS`."""
    torch.manual_seed(0)
    network = Twin(features=FEATURES)
    draws = torch.Generator().manual_seed(1)
    for name, wanted in zip(
        ("conv_0", *(f"down_{k}.convs" for k in range(1, 5)), *(f"upcat_{k}.convs" for k in (4, 3, 2, 1))),
        (step[-2:] for step in WIDTHS),
        strict=True,
    ):
        for k, number in enumerate(wanted):
            bias = network.get_parameter(f"body.{name}.conv_{k}.conv.bias")
            bias.data += 0.3
            dead = torch.randperm(len(bias), generator=draws)[number:]
            bias.data[dead] = -1e3
    # the first upsampling: three of its eight channels are sums of others
    deconv = network.get_submodule("body.upcat_4.upsample.deconv")
    for values in (deconv.weight.data.transpose(0, 1), deconv.bias.data):
        values[5:] = values[:3] - 2 * values[1:4]
    return network.eval()


def test_a_pruned_network_computes_the_same_where_only_dead_channels_went() -> None:
    source = network_with_dead_channels()
    target = Twin(widths=WIDTHS).eval()
    assert widths_of(target) == WIDTHS
    prune(target, source, slices(2))
    others = slices(3)
    with torch.no_grad():
        one, other = source(others) - others[:, 1:2], target(others) - others[:, 1:2]
    assert float(one.std()) > 1e-3
    assert float((one - other).abs().max()) < 1e-4 * float(one.abs().max())


def test_what_matters_least_goes_first() -> None:
    source = network_with_dead_channels()
    errors = []
    for lost in (0, 1, 4):
        widths = [[max(1, number - lost) for number in step] for step in WIDTHS]
        target = Twin(widths=widths).eval()
        prune(target, source, slices(2))
        with torch.no_grad():
            errors.append(float((source(slices(3)) - target(slices(3))).std()))
    assert errors[0] < errors[1] / 100 and errors[1] < errors[2]


def test_a_narrower_network_is_no_source() -> None:
    with pytest.raises(InputError, match="narrower somewhere"):
        prune(Twin(features=FEATURES), Twin(widths=WIDTHS), slices(2))


@pytest.mark.parametrize("widths", [WIDTHS[:-1], [*WIDTHS[:4], [8], *WIDTHS[5:]], [[1, 2, 3], *WIDTHS[1:]]])
def test_widths_of_another_form_are_refused(widths: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="five pairs and four threes"):
        Twin(widths=widths)
