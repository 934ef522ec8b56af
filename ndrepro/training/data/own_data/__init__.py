"""Data sets of the user's own: folders of images, arrays in a ``.npz`` file, folders of Hugging Face's ``datasets``."""
