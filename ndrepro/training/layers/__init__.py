"""Network deconvolution (Ye et al., ICLR 2020), for any torch network.

    from ndrepro.training.layers import deconvolve

    conversion = deconvolve(network)    # changes the network in place
    print(conversion)                   # what was replaced, removed and left, and why

``whitening``      mean and covariance of rows, and the inverse square root of a covariance
``deconv``         ``Deconv2d`` and ``Delinear``: layers that whiten what they see
``convert``        ``deconvolve``: puts them into a network of convolutions, batch norms and linear layers
``census``         which layers a network calls, in order
"""

from ndrepro.training.layers.conversion import Conversion
from ndrepro.training.layers.convert import First, Override, deconvolve, remove_batch_norm

__all__ = ["Conversion", "First", "Override", "deconvolve", "remove_batch_norm"]
