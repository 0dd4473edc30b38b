"""The operators that a program may call, by overload, and why each family is harmless.

What is not here is refused by name. To be here an operator computes tensors from tensors, on the CPU, and nothing else:
no files, processes, networks, devices, raw memory, generators or data-dependent shapes. It checks sizes and indices
itself before it touches memory: `tests/fuzz/operators.py` calls every one of them with hostile shapes, indices and
numbers in a child process and none may die. An operator is added by adding its overload to the family that it belongs
to (or a new family with its reason) and running that command; names without a dot are of the overload `default`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

_ATEN = "torch.ops.aten."


@dataclass(frozen=True)
class Family:
    """Operators that are allowed for one reason."""

    subject: str
    why: str
    names: str

    def targets(self) -> list[str]:
        """Their full names."""
        return [f"{_ATEN}{name if '.' in name else name + '.default'}" for name in self.names.split()]


FAMILIES = (
    Family(
        "arithmetic",
        "element by element on broadcast shapes, which the iterator that all of them share checks",
        """add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Scalar rsub.Tensor mul.Tensor mul.Scalar div.Tensor
        div.Scalar div.Tensor_mode true_divide.Tensor neg abs reciprocal square sqrt rsqrt pow.Tensor_Scalar pow.Scalar
        pow.Tensor_Tensor exp exp2 expm1 log log2 log10 log1p maximum minimum fmax fmin lerp.Scalar lerp.Tensor addcmul
        addcdiv clamp clamp.Tensor clamp_min clamp_max sign floor ceil round round.decimals trunc frac remainder.Scalar
        remainder.Tensor floor_divide floor_divide.Scalar fmod.Scalar fmod.Tensor hypot logaddexp nan_to_num
        positive""",
    ),
    Family(
        "functions",
        "element by element, without a second operand's shape",
        """sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh erf erfc erfinv lgamma digamma special_erfcx
        special_ndtri special_log_ndtr xlogy.Tensor sigmoid tanh logit""",
    ),
    Family(
        "activations",
        "element by element with constant parameters; the weights of prelu are checked against the channels",
        """relu relu6 leaky_relu elu celu selu gelu silu mish hardtanh hardsigmoid hardswish hardshrink softshrink
        softplus log_sigmoid threshold prelu glu softmax.int log_softmax.int _softmax _log_softmax""",
    ),
    Family(
        "comparisons",
        "element by element, giving booleans",
        """eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor gt.Scalar ge.Tensor
        ge.Scalar isnan isinf isfinite logical_and logical_or logical_xor logical_not bitwise_and.Tensor
        bitwise_or.Tensor bitwise_xor.Tensor bitwise_not __and__.Tensor __or__.Tensor __xor__.Tensor where.self
        where.ScalarOther where.ScalarSelf where.Scalar masked_fill.Scalar masked_fill.Tensor""",
    ),
    Family(
        "reductions",
        "over dimensions that are checked to exist; their results are never larger than what goes in",
        """sum sum.dim_IntList mean mean.dim prod prod.dim_int amax amin max max.dim min min.dim aminmax argmax argmin
        any any.dim all all.dim std.dim std.correction var.dim var.correction var_mean.correction logsumexp median
        median.dim nanmedian.dim nansum nanmean cumsum cumprod norm.ScalarOpt_dim norm.Scalar linalg_vector_norm
        topk sort sort.stable argsort kthvalue trapezoid.x trapezoid.dx diff cosine_similarity""",
    ),
    Family(
        "products",
        "matrix products, whose inner sizes are checked before BLAS is called; einsum is made of them",
        "linear mm bmm matmul mv dot addmm addmv baddbmm outer einsum bilinear cdist",
    ),
    Family(
        "attention",
        "query, key, value and mask are checked against each other; dropout in it is told apart below",
        "scaled_dot_product_attention",
    ),
    Family(
        "convolutions",
        "channels, groups, strides and kernel are checked against the input before a kernel is chosen",
        """conv1d conv2d conv3d conv1d.padding conv2d.padding conv3d.padding conv_transpose1d conv_transpose2d.input
        conv_transpose3d.input convolution im2col col2im""",
    ),
    Family(
        "norms",
        "statistics and weights are checked against the channels; training is told apart below",
        """batch_norm layer_norm group_norm instance_norm rms_norm native_layer_norm native_group_norm
        _native_batch_norm_legit_no_training""",
    ),
    Family(
        "pooling",
        "kernel, stride, padding and dilation are checked to give an output of positive size",
        """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
        adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
        max_pool2d_with_indices _adaptive_avg_pool2d""",
    ),
    Family(
        "resampling",
        "either sizes or scales, not both, so that every source index lies inside; padding checks its widths",
        """upsample_nearest1d.vec upsample_nearest2d.vec upsample_linear1d.vec upsample_bilinear2d.vec
        upsample_bicubic2d.vec upsample_nearest3d.vec upsample_trilinear3d.vec pixel_shuffle pixel_unshuffle pad
        constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d channel_shuffle""",
    ),
    Family(
        "recurrent",
        "layers of linear products and activations; the number and sizes of their weights are checked",
        "lstm.input gru.input rnn_tanh.input rnn_relu.input lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    ),
    Family(
        "look-ups",
        "every index is compared with the size before it is used, and one outside raises an error",
        """embedding index.Tensor index_select gather take_along_dim scatter.value scatter.src scatter_add
        index_put bucketize.Tensor searchsorted.Tensor one_hot""",
    ),
    Family(
        "views and copies",
        "other sizes and strides over memory that they are computed from, not given for: not as_strided, not set_",
        """view reshape view_as reshape_as flatten.using_ints unflatten.int squeeze squeeze.dim squeeze.dims unsqueeze
        permute transpose.int swapaxes swapdims movedim.int movedim.intlist t numpy_T mT select.int slice.Tensor narrow
        split.Tensor split.sizes split_with_sizes chunk tensor_split.sections tensor_split.indices unbind.int expand
        expand_as broadcast_to diagonal unfold cat concat stack hstack vstack flip roll rot90 repeat tile
        repeat_interleave.self_int contiguous clone alias detach lift_fresh_copy to.dtype to.device to.dtype_layout
        to.other _to_copy type_as tril triu meshgrid meshgrid.indexing dropout feature_dropout alpha_dropout
        atleast_1d atleast_2d""",
    ),
    Family(
        "constants",
        "new tensors of bounded size (see `checking`) with every value set: not empty, whose values are old memory",
        """zeros ones full arange arange.start arange.start_step linspace eye scalar_tensor zeros_like ones_like
        full_like new_zeros new_ones new_full""",
    ),
    Family(
        "in place",
        "the same computations into a tensor that the program made; into its weights they are refused",
        """add_.Tensor add_.Scalar sub_.Tensor sub_.Scalar mul_.Tensor mul_.Scalar div_.Tensor div_.Scalar neg_ exp_
        sqrt_ clamp_ clamp_min_ clamp_max_ relu_ relu6_ leaky_relu_ elu_ celu_ selu_ silu_ mish_ hardtanh_ hardsigmoid_
        hardswish_ sigmoid_ tanh_ threshold_ masked_fill_.Scalar masked_fill_.Tensor fill_.Scalar fill_.Tensor zero_
        copy_ dropout_ feature_dropout_ alpha_dropout_ index_put_ scatter_.value scatter_.src scatter_add_
        detach_ squeeze_.dim unsqueeze_ transpose_""",
    ),
    Family(
        "sizes",
        "integers that a tensor already has",
        "sym_size.int sym_numel sym_stride.int",
    ),
)

RANDOM = Family(
    "random",
    "numbers from torch's generator, which is seeded before every call; only where randomness is asked for",
    "rand randn rand_like randn_like bernoulli bernoulli.p",
)
# Names of random operators of any overload, for a sentence about them.
_RANDOM_NAMES = """
    rand randn randint randint_like rand_like randn_like randperm bernoulli bernoulli_ normal normal_ uniform uniform_
    multinomial poisson exponential exponential_ cauchy_ geometric_ log_normal_ random_ rrelu rrelu_ rrelu_with_noise
    native_dropout binomial
"""
RANDOM_NAMES = frozenset(_RANDOM_NAMES.split())
# Arithmetic on sizes, which torch has as Python functions: integers, floats and booleans in, one out.
_ON_SIZES = "add sub mul floordiv mod truediv neg eq ne lt le gt ge and_ or_"
SIZE_FUNCTIONS = frozenset(f"_operator.{name}" for name in _ON_SIZES.split()) | frozenset(
    f"torch.sym_{name}" for name in ("int", "float", "max", "min", "not", "ite")
)


@cache
def allowed_operators(*, random: bool = False) -> frozenset[str]:
    """Full names of the operators that a program may call, with the few random ones or without."""
    families = (*FAMILIES, RANDOM) if random else FAMILIES
    return frozenset(target for family in families for target in family.targets())


def operator_name(target: str) -> str:
    """The operator's name in `torch.ops.aten`, without the overload."""
    return target.removeprefix(_ATEN).partition(".")[0]


def aten_operator(target: str) -> Any:
    """What torch calls by the full name of an operator that is on the list; `AttributeError` where it has none."""
    import torch

    name, _, overload = target.removeprefix(_ATEN).partition(".")
    return getattr(getattr(torch.ops.aten, name), overload)
