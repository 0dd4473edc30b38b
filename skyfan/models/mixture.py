"""The mixture-density head: what its numbers mean, without torch.

A head of 1 + 3·K values a sample gives the redshift, and K normal distributions (Bishop 1994, NCRG/94/004) whose
weighted sum is p(z): `z_mean` [K], `z_sigma` [K] > 0, `z_weight` [K] that sum to 1. Its last layer is linear in the
redshift, the means, the logarithms of the sigmas, and the logits of the weights, in this order.
"""

from skyfan.layout import OutputSpec

POINT = (OutputSpec("z_pred", (1,)),)


def head_width(components: int) -> int:
    """Values a sample of a head with `components` components; 0: the redshift alone."""
    return 1 + 3 * components


def components_of(width: int) -> int | None:
    """The number of components of a head with `width` values; None: it is no head that is known."""
    return (width - 1) // 3 if width >= 1 and width % 3 == 1 else None


def head_outputs(width: int) -> tuple[OutputSpec, ...]:
    """The named outputs that lie side by side in what an AstroMAE of this head gives."""
    components = components_of(width)
    if not components:
        return POINT
    return (*POINT, *(OutputSpec(name, (components,)) for name in ("z_mean", "z_sigma", "z_weight")))
