"""The fast kernels of network deconvolution: what the layers of ``layers.deconv`` compute, in less time.

The layer there stays the definition. Here the same truncated polynomial, mean, covariance and folded weight are
evaluated in another order, with hand-written derivatives: equal in exact arithmetic, so to rounding on a computer.
The tests compare both in float64. ``deconv_kernel=reference|fast`` of an experiment chooses.

``conversion``       ``ndrepro.deconvolve``: any torch network, with these kernels
``kernels``          attaches the kernels to a network's layers, and chooses by shape and device
``sampling``         which rows of its input a layer whitens, and how its weight is cut into the same rows
``patches``          one strided copy that gathers patches, and the additions that are its adjoint
``pixels``           every s-th pixel of a batch, for 1x1 convolutions, and the additions that are its adjoint
``statistics``       mean, covariance and its inverse square root, and their adjoint
``product_form``     the truncated root by fused matrix products
``stacked_form``     the truncated root of the groups of a grouped convolution on a CPU
``spectral_form``    the truncated root on eigenvalues
``folded_weight``    whitening folded into the weight: one autograd node
``whitened_data``    whitening applied to the patches, where that is less work: one autograd node
``evaluation``       the folded weight of a layer in evaluation, kept while nothing changes
``finite_check``     non-finite statistics become an error that names the layer
"""
