"""Models: architectures, schemes of initial weights, and the Network that the rest of the package works on.

Fully connected (``dense``)
    mlp, lenet_300_100
Convolutional (``convolutional``)
    lenet5, conv2, conv4, conv6, resnet20, vgg16_bn
Initial weights (``schemes``)
    SCHEMES, AS_BUILT, set_weights
Networks (``network``, ``initialization``)
    Network, Initialization, initialize, restore, module_of
Modules that factories build (``building``)
    Factory
Masked networks as modules (``masked_modules``), and ONNX files (``onnx``)
    compact, to_pruned, to_sparse, write_onnx
Copies of modules, and masks of torch.nn.utils.prune (``pruned``)
    own_copy, bake

A model is a factory ``factory(input_shape, classes, **options) -> nn.Module``. Users give its name in
``__all__``, with the text after a colon as its first argument (``mlp:300,100``), or ``file.py:function`` for
a factory of their own. A network is a module, its initialization, and its wiring. It is never written to:
training works on copies of its parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

# The models and nothing else: these are the names that users may give.
__all__ = ["conv2", "conv4", "conv6", "lenet5", "lenet_300_100", "mlp", "resnet20", "vgg16_bn"]

_HOMES = {
    "building": "Factory",
    "convolutional": "conv2 conv4 conv6 lenet5 resnet20 vgg16_bn",
    "dense": "lenet_300_100 mlp",
    "initialization": "Initialization",
    "masked_modules": "compact to_pruned to_sparse",
    "network": "Network initialize module_of restore",
    "onnx": "write_onnx",
    "pruned": "bake own_copy",
    "schemes": "AS_BUILT SCHEMES set_weights",
}

if TYPE_CHECKING:
    from ticketsearch.models.building import Factory as Factory
    from ticketsearch.models.convolutional import conv2, conv4, conv6, lenet5, resnet20, vgg16_bn
    from ticketsearch.models.dense import lenet_300_100, mlp
    from ticketsearch.models.initialization import Initialization as Initialization
    from ticketsearch.models.masked_modules import compact as compact
    from ticketsearch.models.masked_modules import to_pruned as to_pruned
    from ticketsearch.models.masked_modules import to_sparse as to_sparse
    from ticketsearch.models.network import Network as Network
    from ticketsearch.models.network import initialize as initialize
    from ticketsearch.models.network import module_of as module_of
    from ticketsearch.models.network import restore as restore
    from ticketsearch.models.onnx import write_onnx as write_onnx
    from ticketsearch.models.pruned import bake as bake
    from ticketsearch.models.pruned import own_copy as own_copy
    from ticketsearch.models.schemes import AS_BUILT as AS_BUILT
    from ticketsearch.models.schemes import SCHEMES as SCHEMES
    from ticketsearch.models.schemes import set_weights as set_weights

__getattr__ = lazy.face(__name__, _HOMES)
