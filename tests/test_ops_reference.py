# SPDX-License-Identifier: Apache-2.0
"""The reference, through the front end, against the node tests of the onnx package and its reference evaluator."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_models import ModelMaker, forward, imported

from tinytrain.ir.types import F32, Array
from tinytrain.verify.checks import assert_matches

# Node tests whose op works on each sample of the batch by itself: op, then the variants (`-` is the test named like the op).
BY_SAMPLE = """
abs: -
acos: - example
acosh: - example
add: - bcast
asin: - example
asinh: - example
atan: - example
atanh: - example
averagepool: 1d_default 2d_ceil 2d_default 2d_pads 2d_pads_count_include_pad 2d_precomputed_pads 2d_precomputed_pads_count_include_pad
    2d_precomputed_same_upper 2d_precomputed_strides 2d_same_lower 2d_same_upper 2d_strides 2d_dilations
basic_conv: with_padding without_padding
batchnorm: epsilon example
ceil: - example
clip: - default_inbounds default_max default_min example inbounds outbounds splitbounds
col2im: - 5d dilations pads strides
concat: 2d_axis_1 2d_axis_negative_1 3d_axis_1 3d_axis_2 3d_axis_negative_1 3d_axis_negative_2
constant: pad
conv: with_autopad_same with_strides_and_asymmetric_padding with_strides_no_padding with_strides_padding
convtranspose: - 1d autopad_same dilations group_2 kernel_shape output_shape pad pads
depthtospace: crd_mode_example example
cos: - example
cosh: - example
div: - bcast example
dropout: default
elu: - default example
erf: -
exp: - example
flatten: axis1 default_axis negative_axis3
floor: - example
gelu: default_1 default_2 tanh_1 tanh_2
gemm: alpha beta default_matrix_bias default_no_bias default_scalar_bias default_single_elem_vector_bias default_vector_bias
    default_zero_bias transposeB
globalaveragepool: - precomputed
globalmaxpool: - precomputed
gridsample: - aligncorners_true bicubic_align_corners_0_additional_1 bicubic_align_corners_1_additional_1 bilinear
    bilinear_align_corners_0_additional_1 bilinear_align_corners_1_additional_1 border_padding nearest
    nearest_align_corners_0_additional_1 nearest_align_corners_1_additional_1 reflection_padding zeros_padding
group_normalization: epsilon example
hardmax: axis_1 axis_2 default_axis example negative_axis one_hot
hardsigmoid: - default example
hardswish: -
identity: -
instancenorm: epsilon example
l1normalization: axis_1
l2normalization: axis_1
leakyrelu: - default example
log: - example
logsoftmax: axis_1 axis_2 default_axis example_1 large_number negative_axis
lppool: 1d_default 2d_default 2d_dilations 2d_pads 2d_same_lower 2d_same_upper 2d_strides
matmul: 2d
max: one_input two_inputs
maxpool: 1d_default 2d_ceil 2d_default 2d_dilations 2d_pads 2d_precomputed_pads 2d_precomputed_same_upper 2d_precomputed_strides
    2d_same_lower 2d_same_upper 2d_strides
min: one_input two_inputs
mish: -
mul: - bcast example
neg: - example
pow: - example bcast_scalar
prelu: broadcast example
reciprocal: - example
reduce_l1: do_not_keepdims_random keep_dims_random negative_axes_keep_dims_random
reduce_l2: do_not_keepdims_random keep_dims_random negative_axes_keep_dims_random
reduce_max: do_not_keepdims_random keepdims_random negative_axes_keepdims_random
reduce_mean: do_not_keepdims_example keepdims_random
reduce_min: do_not_keepdims_random keepdims_random negative_axes_keepdims_random
reduce_prod: do_not_keepdims_random keepdims_random negative_axes_keepdims_random
reduce_sum: do_not_keepdims_random keepdims_random negative_axes_keepdims_random
reduce_sum_square: do_not_keepdims_random keepdims_random negative_axes_keepdims_random
relu: -
resize: downsample_scales_cubic downsample_scales_cubic_A_n0p5_exclude_outside downsample_scales_cubic_align_corners
    downsample_scales_cubic_antialias downsample_scales_linear downsample_scales_linear_align_corners downsample_scales_linear_antialias
    downsample_scales_linear_half_pixel_symmetric downsample_scales_nearest downsample_sizes_cubic downsample_sizes_cubic_antialias
    downsample_sizes_linear_antialias downsample_sizes_linear_pytorch_half_pixel downsample_sizes_nearest
    downsample_sizes_nearest_not_larger downsample_sizes_nearest_not_smaller tf_crop_and_resize tf_crop_and_resize_axes_2_3
    tf_crop_and_resize_axes_3_2 tf_crop_and_resize_extrapolation_value upsample_scales_cubic upsample_scales_cubic_A_n0p5_exclude_outside
    upsample_scales_cubic_align_corners upsample_scales_cubic_asymmetric upsample_scales_linear upsample_scales_linear_align_corners
    upsample_scales_linear_half_pixel_symmetric upsample_scales_nearest upsample_scales_nearest_axes_2_3 upsample_scales_nearest_axes_3_2
    upsample_sizes_cubic upsample_sizes_nearest upsample_sizes_nearest_axes_2_3 upsample_sizes_nearest_axes_3_2
    upsample_sizes_nearest_ceil_half_pixel upsample_sizes_nearest_floor_align_corners upsample_sizes_nearest_not_larger
    upsample_sizes_nearest_not_smaller upsample_sizes_nearest_round_prefer_ceil_asymmetric
rms_normalization: 2d_axis1 3d_axis1_epsilon 3d_axis2_epsilon 4d_axis1 4d_axis2 4d_axis3 default_axis
round: -
selu: - default example
shrink: hard soft
sigmoid: - example
sign: -
sin: - example
sinh: - example
softmax: axis_1 axis_2 default_axis example large_number negative_axis
softplus: - example
softsign: - example
spacetodepth: crd_mode_example dcr_mode_example example
sqrt: - example
sub: - bcast example
swish: -
tan: - example
tanh: - example
thresholdedrelu: - default example
transpose: all_permutations_0 all_permutations_1
unsqueeze: axis_2
upsample: nearest
"""


def listed() -> list[str]:
    """Names of BY_SAMPLE in full."""
    names = []
    for entry in BY_SAMPLE.replace("\n ", " ").strip().splitlines():
        op, _, variants = entry.partition(":")
        names += [op if variant == "-" else f"{op}_{variant}" for variant in variants.split()]
    return names


@cache
def node_tests() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)   # some tests of other ops are about infinities
        return {test.name.removeprefix("test_"): test for test in collect_testcases(None)}


def samples(name: str) -> list[tuple[onnx.ModelProto, Array, Array]]:
    """A node test as models of batch 1 with every further input stored: (model, x, y) for each sample."""
    test = node_tests()[name]
    inputs, outputs = (list(arrays) for arrays in test.data_sets[0])
    if np.ndim(inputs[0]) == 1:                           # a vector is one sample
        inputs, outputs = ([a[None] if np.ndim(a) == 1 else a for a in arrays] for arrays in (inputs, outputs[:1]))
    batch = len(inputs[0])
    made = []
    for n in range(batch):
        # what has a batch axis too is taken apart with the first input, unless it is a matrix of weights
        alike = [np.ndim(a) == np.ndim(inputs[0]) and len(a) == batch and "gemm" not in name and "matmul" not in name for a in inputs]
        alike = [same or (name == "gemm_default_matrix_bias" and i == 2) for i, same in enumerate(alike)]
        part = [np.asarray(a[n : n + 1] if same or i == 0 else a) for i, (a, same) in enumerate(zip(inputs, alike, strict=True))]
        model = onnx.ModelProto()
        model.CopyFrom(test.model)
        names = [v.name for v in model.graph.input]
        del model.graph.input[1:]
        model.graph.initializer.extend(numpy_helper.from_array(a, key) for key, a in zip(names[1:], part[1:], strict=True))
        del model.graph.output[1:]
        want = np.asarray(outputs[0][n : n + 1])
        for value, array in ((model.graph.input[0], part[0]), (model.graph.output[0], want)):
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, array.shape))
        made.append((model, part[0], want))
    return made


@pytest.mark.parametrize("name", listed())
def test_onnx_node_test(name: str, tmp_path: Path) -> None:
    for model, x, want in samples(name):
        got = forward(imported(model, tmp_path, fold_batchnorm=False), x)
        assert_matches([got.reshape(want.shape)], [want], [F32], name)


def small_models() -> dict[str, ModelMaker]:
    """What the node tests leave out: groups, depthwise, dilation, 1-D, and chains that change the layout on the way."""
    made = {}
    grouped = made["grouped"] = ModelMaker(1, 4, 7, 6)
    grouped.conv(6, 2, group=2, pads=[1, 0, 2, 1], strides=[2, 1])
    depthwise = made["depthwise"] = ModelMaker(1, 5, 8, 7)
    depthwise.conv(5, 1, group=5, pads=[1, 1, 1, 1], strides=[2, 2])
    multiplier = made["depthwise_multiplier"] = ModelMaker(1, 3, 6, 6)
    multiplier.conv(6, 1, group=3)
    dilated = made["dilated"] = ModelMaker(1, 2, 9, 10)
    dilated.conv(3, 2, dilations=[2, 3], pads=[2, 3, 2, 3])
    one_d = made["one_d"] = ModelMaker(1, 3, 16)
    one_d.node("Conv", one_d.weight(4, 3, 5), one_d.weight(4), kernel_shape=[5], strides=[2], pads=[2, 1])
    one_d.node("Relu")
    one_d.node("MaxPool", kernel_shape=[2], strides=[2])
    one_d.node("Flatten")
    one_d.dense(3, 16)
    chain = made["chain"] = ModelMaker(1, 2, 8, 8)
    chain.conv(4, 2, pads=[1, 1, 1, 1])
    chain.batch_norm(4)
    skip = chain.node("Relu")
    chain.conv(4, 4, pads=[1, 1, 1, 1])
    chain.node("Add", skip)
    chain.node("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    chain.node("Flatten")
    chain.dense(5, 64)
    chain.node("Softmax", axis=-1)
    return made


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@pytest.mark.parametrize("name", sorted(small_models()))
def test_small_model_against_onnx_evaluator(name: str, fold: bool, tmp_path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    maker = small_models()[name]
    model = maker.model()
    x = maker.rng.normal(size=maker.input_shape).astype(np.float32)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    got = forward(imported(model, tmp_path, fold_batchnorm=fold), x)
    assert_matches([got.reshape(want.shape)], [want], [F32], name)
