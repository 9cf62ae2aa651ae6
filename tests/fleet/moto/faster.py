"""Halves moto's start: import this before it.

moto parses the same 1.2 MB of endpoints once per session, and reads which EC2 instance types exist
in every zone of the world, which nobody here asks for.
"""

import functools

import botocore.loaders
import moto.utilities.utils

_load_file = botocore.loaders.JSONFileLoader.load_file
_load_resource = moto.utilities.utils.load_resource


@functools.cache
def _endpoints(path):
    return _load_file(botocore.loaders.JSONFileLoader(), path)


def load_file(self, path):
    return _endpoints(path) if path.endswith("endpoints") else _load_file(self, path)


def load_resource(path):
    return [] if "instance_type_offerings" in path else _load_resource(path)


botocore.loaders.JSONFileLoader.load_file = load_file
moto.utilities.utils.load_resource = load_resource
