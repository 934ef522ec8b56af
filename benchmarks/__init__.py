"""``make bench``: the speeds that the project promises, each as a ratio or a difference within one run."""
