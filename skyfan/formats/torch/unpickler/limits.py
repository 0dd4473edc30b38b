"""How much one pickle may ask for; checked before it is given.

Sizes of honest files, for comparison: a TensorDataset of three tensors has 120 instructions, a pickled module of
1,000 layers about 300,000, a checkpoint with the optimiser's state of 10,000 parameters about a million.
"""

MAX_PICKLE_BYTES = 16 * 2**20
MAX_OPCODES = 4_000_000
"""Instructions: about two seconds' worth."""

MAX_OBJECTS = 1_000_000
"""Containers, tensors and objects: at most 250 bytes each, so 250 MB."""

MAX_COPIED_ITEMS = 4_000_000
"""Items that are copied from one container to another, in all: a memoised list can be copied by three bytes."""

MAX_INTEGER_BYTES = 128
"""The widest integers of honest files are generator states of 128 bits; converting long ones is quadratic."""

MAX_KEY_INTEGER = 2**60
"""Below Python's hash modulus (2**61 - 1), so that no two integer keys have one hash."""

MAX_NAME_CHARACTERS = 1024
"""Of a key, a module, a class, a storage: a comparison of two long equal strings takes as long as they are."""

MAX_TEXT_NUMBER_BYTES = 400
"""A number written as text (protocol 0)."""

MAX_DIMENSIONS = 32
"""Of a tensor; numpy before 2.0 has no more."""

MAX_TENSOR_INTEGER = 2**62
"""Sizes, strides and offsets: sums and products by an item's size stay what they are, Python's integers."""
