"""What the other files of a training process may hold: the data, the network, and an epoch's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndrepro.protocol.messages import Timing
from ndrepro.protocol.recorded.shapes import (
    COUNT,
    SECONDS,
    array,
    captured,
    each,
    nothing,
    number,
    one_of,
    record,
    sha256,
    table,
    text,
    truth,
    whole,
)
from provenance.formats.strict_json import Field

_SPLITS = captured(record({"train": sha256, "test": sha256}))
DATASET = record(
    {
        "name": text,
        "reader": text,
        "canonical": one_of(nothing, truth),
        "classes": array(text),
        "train_images": whole(1),
        "test_images": COUNT,
        "files": COUNT,
        "bytes": COUNT,
        "tree_sha256": sha256,
    },
    {
        "pixels_sha256": _SPLITS,
        "labelled_sha256": _SPLITS,
        "sample_pixels_sha256": captured(sha256),
        "official_by": text,
        "content_sha256": table(sha256),
        "left_out": record({"count": COUNT, "reasons": table(COUNT), "examples": array(text)}),
        "validation_images": whole(1),
        "test_images_dropped": COUNT,
        "prepared": record({"labels_redrawn": COUNT, "labels_changed": COUNT}, {"pixels_sha256": _SPLITS}),
    },
)
# a setting of a layer, which one of the user's own network may have in any form
_SETTING = one_of(nothing, truth, number(-1e9, 1e9), array(number(-1e9, 1e9)), text)
_SHAPE = array(COUNT)
_LAYER = record(
    {"call": COUNT, "layer": text, "input_shape": _SHAPE, "output_shape": _SHAPE, "parameters": COUNT},
    each(
        "in_channels_or_features out_channels_or_features kernel stride padding groups bias block n_iter freeze "
        "sampling_stride",
        _SETTING,
    ),
)
_SUMMARY = record(
    each(
        "trainable_parameters deconv2d_layers conv2d_layers batchnorm2d_layers delinear_layers linear_layers buffers",
        COUNT,
    )
)
MODEL = record({"summary": _SUMMARY, "layers": array(_LAYER), "tensors": table(_SHAPE)})
_TIMING_ROW = record(
    {
        "epoch": whole(1),
        "train_seconds": SECONDS,
        "test_seconds": SECONDS,
        "trail_seconds": SECONDS,
        "images_per_second": number(0, 1e12, "images"),
        "peak_memory_bytes": whole(1),
        "peak_device_memory_bytes": COUNT,
    }
)


def read_timing(row: Mapping[str, Any]) -> Timing:
    """The row of ``timing.jsonl``. Raises ManifestError for a member or value that no training process writes."""
    _TIMING_ROW(Field(dict(row), "timing.jsonl"))
    return Timing(**row)
