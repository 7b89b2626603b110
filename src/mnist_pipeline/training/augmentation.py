"""Random affine and elastic change of a whole batch at once, on the batch's own device."""

from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_pipeline.training.hyperparameters import Hyperparameters


def augment(images: Tensor, hp: Hyperparameters, generator: torch.Generator) -> Tensor:
    """Change every image in its own way: uint8 (N, C, S, S), as the images.

    Images that are only shifted and mirrored are shifted by whole pixels, which blurs nothing, and what comes in from
    outside is their own mirror image. `generator`, on the images' device, is the only source of randomness.
    """
    if not (hp.rotation or hp.scaling or hp.elasticity):
        return shift_and_mirror(images, hp, generator) if hp.translation or hp.flip else images
    count, _, height, width = images.shape

    def uniform(most: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator, device=images.device) * 2 - 1) * most

    angle, size = uniform(hp.rotation * pi / 180), 1 + uniform(hp.scaling)
    shift = uniform(hp.translation * 2 / width, 2, 1)  # grid_sample's image is 2 wide
    mirror = torch.where(uniform(0.5) + 0.5 < hp.flip, -1, 1)
    turn = torch.stack((angle.cos() * mirror, -angle.sin(), angle.sin() * mirror, angle.cos()), 1)
    affine = torch.cat((turn.view(count, 2, 2) * size[:, None, None], shift), 2)  # (N, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)  # (N, S, S, 2)
    if hp.elasticity:
        # Displacements at 6x6 points, smoothly interpolated: a digit's strokes bend, but do not tear (Simard, 2003).
        points = torch.randn(count, 2, 6, 6, generator=generator, device=images.device)
        bend = F.interpolate(points, (height, width), mode="bicubic", align_corners=True)
        grid = grid + bend.permute(0, 2, 3, 1) * (hp.elasticity * 2 / width)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)


def shift_and_mirror(images: Tensor, hp: Hyperparameters, generator: torch.Generator) -> Tensor:
    """Shift every image by whole pixels, and mirror some of them."""
    count, size, most = len(images), images.shape[-1], round(hp.translation)
    device = images.device
    top, left = torch.randint(2 * most + 1, (2, count, 1), generator=generator, device=device)
    mirrored = torch.rand(count, 1, generator=generator, device=device) < hp.flip
    pixel = torch.arange(size, device=device)
    rows, columns = top + pixel, left + torch.where(mirrored, size - 1 - pixel, pixel)  # (N, S)
    padded = F.pad(images.float(), (most,) * 4, mode="reflect").to(torch.uint8)
    chosen = padded[torch.arange(count, device=device)[:, None, None], :, rows[:, :, None], columns[:, None]]
    return chosen.permute(0, 3, 1, 2)  # (N, S, S, C) -> (N, C, S, S)
