"""The noise panel: pictures of nothing, on which every judge's card is measured; and the ladder from noise to a real image.

A judge fails on the noise it meets, not on one kind: of four CIFAR-10 ResNets one calls N(0, 1) noise "bird" in 79 % and
another in 0 %, and on N(0, .5) it is 86 and 49 %. So the panel holds noise of many contrasts, and pictures that have structure
and no object. Image i depends on (seed, kind, i) alone, not on how many are asked for; "shuffled" also on the real images.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from auditkit.data import to_model, to_uint8
from auditkit_evaluators.surrogates import shuffled
from auditkit_evaluators.votes import Floats, check_images

Shape = tuple[int, int, int]
Kind = Callable[[int, Shape, int, Tensor], Tensor]  # n, (C, H, W), seed, real uint8 images to uint8 (n, C, H, W)
Draw = Callable[[np.random.Generator, Shape], Floats]  # one image in [-1, 1], clamped later

RUNGS = (0.0, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0)
# Half the range of a pixel: 5 % of the values of a blurred or coloured image are clamped, as in a photograph of high contrast.
CONTRAST = 0.5


def kinds(channels: int) -> tuple[str, ...]:
    """The kinds that differ for images of so many channels: grey noise of one channel is "normal-1"."""
    return tuple(name for name in KINDS if name != "grey" or channels > 1)


def ladder(real: Tensor, a: float, seed: int) -> Tensor:
    """sqrt(a) real + sqrt(1 - a) N(0, 1) in [-1, 1], clamped, 8 bit: uint8 like `real` (B, C, H, W). Image i: real[i], seed, i.

    Raises:
        ValueError: `real` is not uint8 (B, C, H, W), or a is outside 0..1.
    """
    return next(rungs(real, (a,), seed))


def rungs(real: Tensor, levels: Sequence[float], seed: int, *, first: int = 0) -> Iterator[Tensor]:
    """The ladder's images for each a in `levels`; the noise is drawn once. Image i: real[i], seed, first + i."""
    real = check_images(real)
    noise = _drawn("ladder", _normal(1), len(real), _shape(real), seed, first=first)
    for a in levels:
        if not 0 <= a <= 1:
            raise ValueError(f"expected 0 <= a <= 1, found {a}")
        yield to_uint8(a**0.5 * to_model(real) + (1 - a) ** 0.5 * noise)


def _kind(name: str, draw: Draw) -> Kind:
    return lambda n, shape, seed, real: to_uint8(_drawn(name, draw, n, shape, seed))


def _drawn(name: str, draw: Draw, n: int, shape: Shape, seed: int, *, first: int = 0) -> Tensor:
    """`n` float images (n, C, H, W), each from its own generator. The key keeps kinds apart under one seed."""
    key = zlib.crc32(name.encode())
    images = [draw(np.random.default_rng([seed, key, i]), shape) for i in range(first, first + n)]
    return torch.from_numpy(np.stack(images) if images else np.zeros((0, *shape)))


def _normal(sigma: float) -> Draw:
    return lambda rng, shape: sigma * rng.standard_normal(shape)


def _sign(rng: np.random.Generator, shape: Shape) -> Floats:
    return np.asarray(2.0 * rng.integers(0, 2, shape) - 1)


def _grey(rng: np.random.Generator, shape: Shape) -> Floats:
    return np.broadcast_to(rng.standard_normal((1, *shape[1:])), shape)


def _blurred(rng: np.random.Generator, shape: Shape) -> Floats:
    """The width is log-uniform, from half a pixel to a quarter of the image: from grain to one or two blobs."""
    width = 0.5 * (min(shape[1:]) / 2) ** rng.random()
    return _stretched(gaussian_filter(rng.standard_normal(shape), width, axes=(1, 2), mode="reflect"))


def _coloured(rng: np.random.Generator, shape: Shape) -> Floats:
    """Amplitudes fall as 1/f, as in photographs; channels are independent; borders wrap."""
    f = np.hypot(np.fft.fftfreq(shape[1])[:, None], np.fft.fftfreq(shape[2])[None])
    f[0, 0] = np.inf
    return _stretched(np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) / f).real)


def _stretched(x: Floats) -> Floats:
    return np.asarray(CONTRAST * (x - x.mean()) / x.std())


def _constant(rng: np.random.Generator, shape: Shape) -> Floats:
    return np.broadcast_to(rng.uniform(-1, 1, (shape[0], 1, 1)), shape)


def _shuffled(n: int, shape: Shape, seed: int, real: Tensor) -> Tensor:
    real = check_images(real, shape)
    if len(real) == 0 and n > 0:
        raise ValueError("expected real images to shuffle, found none")
    return shuffled(real[torch.arange(n) % max(len(real), 1)], seed)


def _shape(images: Tensor) -> Shape:
    channels, height, width = images.shape[1:]
    return channels, height, width


KINDS: dict[str, Kind] = {
    "sign": _kind("sign", _sign),
    **{f"normal-{s}": _kind(f"normal-{s}", _normal(float(s))) for s in ("4", "1", ".5", ".25", ".1")},
    "uniform": _kind("uniform", lambda rng, shape: rng.uniform(-1, 1, shape)),
    "grey": _kind("grey", _grey),
    "blurred": _kind("blurred", _blurred),
    "coloured": _kind("coloured", _coloured),
    "constant": _kind("constant", _constant),
    "shuffled": _shuffled,
}
