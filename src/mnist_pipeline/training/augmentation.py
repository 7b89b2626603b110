"""Random affine and elastic change of a whole batch at once, on the batch's own device."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far images may be changed; all zero changes nothing.

    Attributes:
        rotation: degrees at most, either way, 0..45.
        translation: pixels at most, along each axis, 0..8. Images that are only shifted and mirrored are shifted by
            whole pixels, which blurs nothing, and what comes in from outside is their own mirror image.
        scaling: relative change of size at most, 0..0.5.
        elasticity: standard deviation of the local displacement, in pixels, 0..8 (Simard et al., 2003).
        flip: probability of a mirror image, left to right, 0..1; for digits 0, a mirrored 2 is none.
    """

    rotation: float = 0.0
    translation: float = 0.0
    scaling: float = 0.0
    elasticity: float = 0.0
    flip: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change every image in its own way.

        Args:
            images: uint8 (N, C, S, S).
            generator: on the images' device; the only source of randomness.

        Returns:
            uint8 (N, C, S, S).
        """
        if not any((self.rotation, self.translation, self.scaling, self.elasticity, self.flip)):
            return images
        if not any((self.rotation, self.scaling, self.elasticity)):
            return self.shift_and_mirror(images, generator)
        count, _, height, width = images.shape

        def uniform(most: float, *shape: int) -> Tensor:
            return (torch.rand(count, *shape, generator=generator, device=images.device) * 2 - 1) * most

        angle, size = uniform(self.rotation * pi / 180), 1 + uniform(self.scaling)
        shift = uniform(self.translation * 2 / width, 2, 1)  # grid_sample's image is 2 wide
        mirror = torch.where(uniform(0.5) + 0.5 < self.flip, -1, 1)
        turn = torch.stack((angle.cos() * mirror, -angle.sin(), angle.sin() * mirror, angle.cos()), 1)
        affine = torch.cat((turn.view(count, 2, 2) * size[:, None, None], shift), 2)  # (N, 2, 3)
        grid = F.affine_grid(affine, list(images.shape), align_corners=False)  # (N, S, S, 2)
        if self.elasticity:
            # Displacements at 6x6 points, smoothly interpolated: a digit's strokes bend, but do not tear.
            points = torch.randn(count, 2, 6, 6, generator=generator, device=images.device)
            bend = F.interpolate(points, (height, width), mode="bicubic", align_corners=True)
            grid = grid + bend.permute(0, 2, 3, 1) * (self.elasticity * 2 / width)
        return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)

    def shift_and_mirror(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shift every image by whole pixels, and mirror some of them."""
        count, size, most = len(images), images.shape[-1], round(self.translation)
        device = images.device
        top, left = torch.randint(2 * most + 1, (2, count, 1), generator=generator, device=device)
        mirrored = torch.rand(count, 1, generator=generator, device=device) < self.flip
        pixel = torch.arange(size, device=device)
        rows, columns = top + pixel, left + torch.where(mirrored, size - 1 - pixel, pixel)  # (N, S)
        padded = F.pad(images.float(), (most,) * 4, mode="reflect").to(torch.uint8)
        chosen = padded[torch.arange(count, device=device)[:, None, None], :, rows[:, :, None], columns[:, None]]
        return chosen.permute(0, 3, 1, 2)  # (N, S, S, C) -> (N, C, S, S)
