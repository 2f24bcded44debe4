"""Published networks of four packages at small sizes, with random weights: nothing is downloaded.

``PUBLISHED`` maps a package to {name: factory(size)}; a factory returns the module and its input shape. All
have ten classes. Classifiers of 4,096 units are narrowed to 64, and a few networks are built with fewer
blocks than their authors gave them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PUBLISHED", "Factory", "available"]

CLASSES = 10
Factory = Callable[[int], tuple[nn.Module, tuple[int, ...]]]
TOKENS, WIDTH = 6, 16


def available(package: str) -> str:
    """Return why a package cannot be used, or an empty string."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        _declare_operators()
        importlib.import_module(package)
    except Exception as error:  # a broken installation raises anything
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return ""


def _declare_operators() -> None:
    """Declare the operators of torchvision that torch lacks where the two are built for other devices.

    No classifier uses them, but torchvision cannot be imported without their names.
    """
    if torch.cuda.is_available() or importlib.util.find_spec("torchvision") is None or _LIBRARIES:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)


_LIBRARIES: list[Any] = []  # a library's declarations end with it


def _pytorchcv(name: str, size: int, least: int = 32, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    from pytorchcv.model_provider import get_model

    size = max(size, least)
    module = get_model(name, pretrained=False, num_classes=CLASSES, in_size=(size, size), **options)
    for parent in module.modules():
        if isinstance(getattr(parent, "final_pool", None), nn.AvgPool2d) and "cifar10" not in name:
            parent.final_pool = nn.AdaptiveAvgPool2d(1)  # of maps as large as ImageNet's
    if name.endswith("vgg11"):
        flat = 512 * (size // 32) ** 2
        layers = ((module.output.fc1, flat, 64), (module.output.fc2, 64, 64), (module.output, 64, CLASSES))
        for block, inputs, outputs in layers:
            setattr(block, "fc3" if outputs == CLASSES else "fc", nn.Linear(inputs, outputs))
    return module, (3, size, size)


def _pytorchcv_family(
    name: str, size: int, family: str = "", **options: Any
) -> tuple[nn.Module, tuple[int, ...]]:
    """Build a member of a family that the package gives no name, such as a narrower one."""
    module = importlib.import_module(f"pytorchcv.models.{family}")
    built = getattr(module, f"get_{family}")(num_classes=CLASSES, **options)
    return built, (3, size, size)


def _torchvision(name: str, size: int, least: int = 32, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    from torchvision import models

    size = max(size, least)
    module = getattr(models, name)(weights=None, num_classes=CLASSES, **options)
    for parent in module.modules():
        if isinstance(parent, nn.Sequential):
            _narrow(parent)
    return module, (3, size, size)


def _torchvision_class(
    name: str, size: int, path: str = "", **options: Any
) -> tuple[nn.Module, tuple[int, ...]]:
    """Build a narrower or shallower member of a family; options that are functions are given its module."""
    from torchvision import models

    module_name, kind = path.split(".")
    module = getattr(models, module_name)
    given = {key: value(module) if callable(value) else value for key, value in options.items()}
    return getattr(module, kind)(num_classes=CLASSES, **given), (3, size, size)


def _narrow(row: nn.Sequential) -> None:
    """Give the hidden Linear layers of a classifier of 4,096 units 64 units instead."""
    layers = [(i, child) for i, child in enumerate(row) if isinstance(child, nn.Linear)]
    if not any(child.out_features == 4096 for _, child in layers):
        return
    for i, child in layers:
        sizes = [64 if n == 4096 else n for n in (child.in_features, child.out_features)]
        row[i] = nn.Linear(*sizes)


def _timm(name: str, size: int, least: int = 32, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    import timm

    size = max(size, least)
    return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options), (3, size, size)


class _FromEmbeddings(nn.Module):
    """A classifier of sequences that takes embedded tokens ``(samples, tokens, features)``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.model(inputs_embeds=x).logits


def _transformers(kind: str, size: int, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=20, num_labels=CLASSES, pad_token_id=0, attn_implementation="eager", **options
    )
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    return _FromEmbeddings(model), (TOKENS, WIDTH)


def _rows(factory: Callable[..., Any], **names: dict[str, Any]) -> dict[str, Factory]:
    return {
        name: partial(_named, factory, options.pop("name", name), options) for name, options in names.items()
    }


def _named(
    factory: Callable[..., Any], name: str, options: dict[str, Any], size: int
) -> tuple[nn.Module, tuple[int, ...]]:
    built: tuple[nn.Module, tuple[int, ...]] = factory(name, size, **options)
    return built


PUBLISHED: dict[str, dict[str, Factory]] = {
    "pytorchcv": _rows(
        _pytorchcv,
        bn_vgg11={"name": "bn_vgg11"},
        nin_cifar10={},
        resnet20_cifar10={},
        preresnet20_cifar10={},
        resnext20_16x4d_cifar10={},
        densenet40_k12_cifar10={},
        ror3_56_cifar10={},
        rir_cifar10={},
        squeezenet_v1_1={},
        mobilenet_wd4={},
        mobilenetv2_wd4={},
        seresnet20_cifar10={},
        sepreresnet20_cifar10={},
        xdensenet40_2_k24_bc_cifar10={},
        shakeshakeresnet20_2x16d_cifar10={},
        diaresnet20_cifar10={},
        mobilenetv3_small_w7d20={},
    )
    | _rows(
        _pytorchcv_family,
        wrn16_2_cifar10={"family": "wrn_cifar", "blocks": 16, "width_factor": 2},
        pyramidnet20_a48_cifar10={
            **{"family": "pyramidnet_cifar", "blocks": 20, "alpha": 48, "bottleneck": False},
        },
    ),
    "torchvision": _rows(
        _torchvision,
        alexnet={"least": 64},
        vgg11={},
        vgg11_bn={},
        vgg13_bn={},
        resnet18={},
        googlenet={"aux_logits": False, "init_weights": False},
        inception_v3={"aux_logits": False, "init_weights": False, "least": 75},
        squeezenet1_0={},
        squeezenet1_1={},
        mobilenet_v2={"width_mult": 0.25},
        mnasnet0_5={},
        mnasnet1_0={},
        regnet_x_400mf={},
        mobilenet_v3_small={"width_mult": 0.5},
        efficientnet_b0={},
        regnet_y_400mf={},
        shufflenet_v2_x0_5={},
    )
    | _rows(
        _torchvision_class,
        resnet34={"path": "resnet.ResNet", "block": lambda m: m.BasicBlock, "layers": [2, 1, 2, 1]},
        resnet50={
            **{"path": "resnet.ResNet", "block": lambda m: m.Bottleneck, "layers": [1, 2, 1, 1]},
            "width_per_group": 16,
        },
        wide_resnet50_2={
            **{"path": "resnet.ResNet", "block": lambda m: m.Bottleneck, "layers": [1, 1, 1, 1]},
            "width_per_group": 128,
        },
        resnext50_32x4d={
            **{"path": "resnet.ResNet", "block": lambda m: m.Bottleneck, "layers": [1, 2, 1, 1]},
            **{"groups": 32, "width_per_group": 4},
        },
        densenet121={
            **{"path": "densenet.DenseNet", "growth_rate": 8, "block_config": (3, 3, 3, 3)},
            "num_init_features": 16,
        },
        convnext_tiny={
            "path": "convnext.ConvNeXt",
            "block_setting": lambda m: [m.CNBlockConfig(16, 32, 1), m.CNBlockConfig(32, None, 2)],
        },
        vit_b_16={
            **{"path": "vision_transformer.VisionTransformer", "image_size": 32, "patch_size": 8},
            **{"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64},
        },
        swin_t={
            **{"path": "swin_transformer.SwinTransformer", "patch_size": [4, 4], "embed_dim": 16},
            **{"depths": [2, 1], "num_heads": [2, 2], "window_size": [4, 4]},
        },
    ),
    "timm": _rows(
        _timm,
        resnet18={},
        seresnet18={},
        efficientnet_lite0={},
        mobilenetv3_small_050={},
        regnetx_002={},
        regnety_002={},
        selecsls42={},
        hrnet_w18_small={},
        ghostnet_100={},
        dla34={},
        convnext_atto={},
        vit_tiny_patch16_224={"img_size": 32, "depth": 2, "embed_dim": 48},
    ),
    "transformers": _rows(
        _transformers,
        Bert={
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
        GPT2={
            **{"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 16},
            **{"bos_token_id": None, "eos_token_id": None},
        },
        Llama={
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
    ),
}
