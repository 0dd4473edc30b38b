"""The operators that an ONNX model may call, by domain, and why.

All of them compute tensors of numbers from tensors of numbers. Not here, and so refused by name: operators of other
domains, which are code of somebody's own; those that hold graphs (If, Loop, Scan), whose time no file bounds; random
numbers; strings, sequences, maps and images; training.
"""

# Domain → operators. Names: https://onnx.ai/onnx/operators/ (opset 25) and its ai.onnx.ml page (opset 5).
_TENSORS = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift BitwiseAnd
    BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat Constant
    ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Det Div Dropout
    DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu
    Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid
    HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual
    Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mish Mod
    Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size
    Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK
    Transpose Trilu Unsqueeze Upsample Where Xor Attention RotaryEmbedding
"""
# Trees, linear models and their preprocessing, as scikit-learn, XGBoost and LightGBM export them.
_CLASSICAL = """
    ArrayFeatureExtractor Binarizer FeatureVectorizer Imputer LinearClassifier LinearRegressor Normalizer SVMClassifier
    SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor
"""
ALLOWED = {
    "": frozenset(_TENSORS.split()),
    "ai.onnx": frozenset(_TENSORS.split()),
    "ai.onnx.ml": frozenset(_CLASSICAL.split()),
}
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
# What to do about an operator that is often met and not allowed.
CURES = {
    "ZipMap": "export it with zipmap=False",
    **dict.fromkeys(("If", "Loop", "Scan"), "export it without control flow"),
    **dict.fromkeys(RANDOM, "export it in evaluation mode"),
}
# Operators that look up, by which input holds their indices; those whose results have bounds of their own.
INDICES = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1, "OneHot": 0}
BOUNDED = frozenset(
    {"ArgMax", "ArgMin", "Clip", "Mod", "TopK", "Shape", "Size", "Equal", "Greater", "GreaterOrEqual", "Less"}
    | {"LessOrEqual", "And", "Or", "Not", "Xor", "IsNaN", "IsInf", "NonZero", "Sigmoid"}
)
