"""Surrogates: what is left of an image when its object is taken away. A class that a judge still finds there was never seen.

A closed-set judge names a class on pictures of nothing. So its rate of a class on the audited images has to exceed its rate on
*every* surrogate of the same images before anyone may say that the class is there. Each surrogate keeps what a family of
pictures of nothing is made of, so that its rates agree with theirs:

    shuffled   the colours of an image, not their places       noise of any distribution, constant images
    phase      power and cross-spectra, and the histogram      noise coloured by a filter that wraps around
    signs      the size of every cosine coefficient            noise blurred with reflecting borders, where a DFT leaks

500 images of each of 16 (digits, six judges) and 17 (CIFAR-10, three ResNets) kinds of nothing: no class rate exceeds that of
its highest surrogate by more than .052 and .080; two sets of one kind differ by up to .066 in both. One surrogate alone leaves up to
.25 and .78. What it cannot do: shuffled frogs are "frog" to all three ResNets, as real ones are, so this control never confirms a
frog (excess -.04 to .02); a card has to say what it leaves of real images. docs/results/noise-test.json.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.fft import dctn, idctn
from torch import Tensor

from auditkit_evaluators.votes import Floats, check_images

KEY = 0x73757272  # keeps these draws apart from other users of the same seed
ROUNDS = 10  # of amplitude adjustment; votes on noise are the same to .02 with none


def shuffled(images: Tensor, seed: int) -> Tensor:
    """The pixels of each image (B, C, H, W) in random order; a pixel keeps its colour, so that only space is destroyed.

    Raises:
        ValueError: the images are not uint8 (B, C, H, W); so do the two others.
    """
    images = check_images(images)
    height, width = images.shape[-2:]
    order = _drawn(len(images), lambda rng: rng.permutation(height * width).astype(np.float64), seed, "shuffled").reshape(
        -1, 1, height * width
    )
    return images.flatten(2).gather(2, torch.from_numpy(order.astype(np.int64)).expand(-1, images.shape[1], -1)).reshape(images.shape)


def phase(images: Tensor, seed: int) -> Tensor:
    """Random Fourier phases, the same turn in all channels (Prichard and Theiler 1994), with the image's own histogram per channel.

    The turn keeps power and cross-spectra; the histogram is then imposed by rank, and both again in turns (IAAFT, Schreiber
    and Schmitz 1996, https://doi.org/10.1103/PhysRevLett.77.635). Ends on the histogram: clipping instead moves the votes on
    sign noise by .18, since the sum of a saturated image's waves is normal.
    """
    values = check_images(images).double().numpy()
    spectrum, noise = np.fft.fft2(values), _normal(images, seed, "phase")
    turn = np.exp(1j * np.angle(np.fft.fft2(noise)))  # of a real image, so conjugate-symmetric; the mean comes back with the histogram
    x = _ranked(np.fft.ifft2(spectrum * turn).real, values)
    for _ in range(ROUNDS):
        x = _ranked(np.fft.ifft2(np.abs(spectrum) * np.exp(1j * np.angle(np.fft.fft2(x)))).real, values)
    return torch.from_numpy(x.astype(np.uint8))


def signs(images: Tensor, seed: int) -> Tensor:
    """Every 2-D DCT-II coefficient but the mean gets a random sign, the same in all channels; clipped and rounded.

    A filter with reflecting borders is diagonal in this basis, so this is exact for noise blurred so. Clipped, not ranked:
    that keeps the spectrum, which decides on
    smooth images (digits blurred by 2 and 3: excess .05, .03; ranked .06, .04); `phase` keeps the histogram.
    """
    values = check_images(images).double().numpy()
    flip = np.sign(_normal(images, seed, "signs"))
    flip[..., 0, 0] = 1
    x = idctn(dctn(values, axes=(2, 3), norm="ortho") * flip, axes=(2, 3), norm="ortho")
    return torch.from_numpy(np.clip(np.rint(x), 0, 255).astype(np.uint8))


def _ranked(x: Floats, values: Floats) -> Floats:
    """`values` (B, C, H, W) put into the order of `x`, channel by channel."""
    shape, out = x.shape, np.empty((*x.shape[:2], x.shape[2] * x.shape[3]))
    # A stable sort, so that ties (a constant image has nothing else) fall the same way everywhere.
    np.put_along_axis(out, x.reshape(out.shape).argsort(axis=-1, kind="stable"), np.sort(values.reshape(out.shape), axis=-1), axis=-1)
    return out.reshape(shape)


def _normal(images: Tensor, seed: int, name: str) -> Floats:
    """N(0, 1) of shape (B, 1, H, W)."""
    height, width = images.shape[-2:]
    return _drawn(len(images), lambda rng: rng.standard_normal((height, width)), seed, name).reshape(-1, 1, height, width)


def _drawn(n: int, draw: Callable[[np.random.Generator], Floats], seed: int, name: str) -> Floats:
    """One draw per image, so that image i depends on itself, the seed and i alone."""
    return np.array([draw(np.random.default_rng([seed, KEY, list(SURROGATES).index(name), i])) for i in range(n)], dtype=np.float64)


SURROGATES: dict[str, Callable[[Tensor, int], Tensor]] = {"shuffled": shuffled, "phase": phase, "signs": signs}
