"""Pickles with a valid stack discipline: every function returns instructions that push exactly one value."""

import struct
from random import Random

INTEGERS = (
    *(-1, 0, 1, 2, 3, 5, 32, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53, 2**60 - 1, 2**60, 2**61 - 1, 2**61),
    *(2**62, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**300),
)
TEXTS = (
    *("", "0", "1", "image", "magnitude", "redshift", "a.b", "module.", "tensors", "_modules", "weight"),
    *("\x1b[2J", "a\0b", "a\nb", "\u202e", "x" * 2000, "../../etc/passwd", "銀河"),
)
CALLS = (
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_parameter"),
    *("torch._tensor _rebuild_from_type_v2", "torch Size", "collections OrderedDict", "collections defaultdict"),
    *("builtins set", "__builtin__ set", "copyreg _reconstructor", "copy_reg _reconstructor", "numpy dtype"),
    *("numpy._core.multiarray scalar", "numpy.core.multiarray _reconstruct", "_codecs encode", "functools partial"),
    *("torch._utils _rebuild_sparse_tensor", "datetime datetime", "pathlib PosixPath"),
)
NAMES = (
    *CALLS,
    *("torch FloatStorage", "torch BFloat16Storage", "torch ComplexFloatStorage", "torch QInt8Storage"),
    *("torch float32", "torch float8_e4m3fn", "torch.storage UntypedStorage", "torch.nn.parameter Parameter"),
    *("torch.utils.data.dataset TensorDataset", "torch.nn.parallel.data_parallel DataParallel", "my.models Net"),
    *("posix system", "builtins eval", "builtins getattr", "os path\x1b[2J"),
)


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data)) + data


def named(name: str) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def marked_tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


class PickleWriter:
    """Writes one pickle; `storages` says how many bytes each `data/<key>` of its archive has."""

    def __init__(self, random: Random, storages: dict[str, int]) -> None:
        self.random = random
        self.storages = storages
        self._memoised = 0

    def pickle(self, root: bytes) -> bytes:
        data = b"\x80" + bytes([self.random.choice((2, 2, 2, 3, 4, 5))]) + root + b"."
        if self.random.random() < 0.1:  # a little random damage on top
            changed = bytearray(data)
            for _ in range(self.random.randrange(1, 4)):
                changed[self.random.randrange(len(changed))] = self.random.randrange(256)
            data = bytes(changed)
        return data[: self.random.randrange(1, len(data))] if self.random.random() < 0.03 else data

    def value(self, depth: int = 0) -> bytes:
        kinds = [self._constant, self._integer, self._text, self._get]
        if depth < 6:
            kinds += [self._container, self._container, self._call, self._object, self.tensor_value, self._bomb]
        made = self.random.choice(kinds)
        pushed = made(depth + 1)
        return pushed + self._put() if self.random.random() < 0.3 else pushed

    def tensor_value(self, _depth: int = 0) -> bytes:
        """A tensor that is sound, or wrong in one respect."""
        key = self.random.choice(tuple(self.storages))
        count = self.storages[key] // 4
        rows = self.random.choice((1, 2, 4, count or 1))
        return self.tensor(key, (rows, max(count // rows, 1)), count)

    def tensor(self, key: str, shape: tuple[int, ...], count: int) -> bytes:
        random = self.random
        stride = [1] * len(shape)
        for axis in range(len(shape) - 2, -1, -1):
            stride[axis] = stride[axis + 1] * max(shape[axis + 1], 1)
        offset, kind, sizes = 0, "torch FloatStorage", list(shape)
        if random.random() < 0.4:
            wrong = random.randrange(7)
            odd = random.choice(INTEGERS)
            if wrong == 0 and sizes:
                sizes[random.randrange(len(sizes))] = odd
            elif wrong == 1 and stride:
                stride[random.randrange(len(stride))] = odd
            elif wrong == 2:
                offset = odd
            elif wrong == 3:
                count = odd
            elif wrong == 4:
                kind = random.choice(NAMES)
            elif wrong == 5:
                sizes = [odd] * random.randrange(70)
                stride = [random.choice(INTEGERS)] * len(sizes)
            else:
                key = random.choice(("9", "../0", "\x1b", "\ud800", ""))
        pid = marked_tuple(text("storage"), named(kind), text(key), text("cpu"), integer(count)) + b"Q"
        rest = integer(offset) + marked_tuple(*map(integer, sizes)) + marked_tuple(*map(integer, stride)) + b"\x89"
        return named("torch._utils _rebuild_tensor_v2") + marked_tuple(pid, rest, b"}") + b"R"

    def dictionary(self, items: list[tuple[bytes, bytes]]) -> bytes:
        if self.random.random() < 0.5:
            return b"}(" + b"".join(key + value for key, value in items) + b"u"
        return b"}" + b"".join(key + value + b"s" for key, value in items)

    def built(self, name: str, state: bytes) -> bytes:
        return named(name) + b")\x81" + state + b"b"

    def _constant(self, _depth: int) -> bytes:
        return self.random.choice(
            (b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f", b"G" + b"\x7f\xf8" + bytes(6), b"C\x01x")
        )

    def _integer(self, _depth: int) -> bytes:
        return integer(self.random.choice(INTEGERS))

    def _text(self, _depth: int) -> bytes:
        return text(self.random.choice((*TEXTS, "\ud800", "\udcff")))

    def _put(self) -> bytes:
        self._memoised += 1
        return b"r" + struct.pack("<I", self.random.choice((self._memoised, self._memoised, 2**32 - 1)))

    def _get(self, _depth: int) -> bytes:
        if not self._memoised:
            return b"N"
        return b"j" + struct.pack("<I", self.random.randrange(1, self._memoised + 1))

    def _container(self, depth: int) -> bytes:
        values = [self.value(depth) for _ in range(self.random.randrange(4))]
        kind = self.random.randrange(6)
        if kind == 0:
            return marked_tuple(*values)
        if kind == 1:
            return b"](" + b"".join(values) + b"e"
        if kind == 2:
            return b"]" + b"".join(value + b"a" for value in values)
        if kind == 3:
            return b"\x8f(" + b"".join(values) + b"\x90"
        if kind == 4:
            return b"(" + b"".join(values) + b"\x91"
        return self.dictionary([(self.value(depth), value) for value in values])

    def _call(self, depth: int) -> bytes:
        name = self.random.choice(CALLS if self.random.random() < 0.9 else NAMES)
        return named(name) + marked_tuple(*(self.value(depth) for _ in range(self.random.randrange(8)))) + b"R"

    def _object(self, depth: int) -> bytes:
        made = named(self.random.choice(NAMES)) + b")" + self.random.choice((b"\x81", b"}\x92"))
        return made + (self.value(depth) + b"b" if self.random.random() < 0.6 else b"")

    def _bomb(self, _depth: int) -> bytes:
        """Few bytes that ask for much: nesting, doubling, copies of copies, long numbers."""
        many = self.random.choice((10, 300, 3_000)) if self.random.random() < 0.995 else 300_000
        shared, again = b"r\x01\x00\x10\x00", b"j\x01\x00\x10\x00"  # one place in the memo, far from the others
        copied_list = b"](" + b"N" * many + b"e" + shared + (b"0" + named("builtins set") + again + b"\x85R") * 20
        copied_state = (
            named("my.models Net") + b")\x81}(" + b"K\x01K\x02" * many + b"u" + shared + b"b" + (again + b"b") * 20
        )
        return self.random.choice(
            (
                b"N" + b"\x85" * many,
                b"}N" + b"\x85" * many + b"Ns",
                b"]" * many + b"a" * (many - 1),
                b"]" + b"2\x86" * min(many, 300),
                copied_list,
                copied_state,
                b"I" + b"9" * many + b"\n",
                b"\x8b" + struct.pack("<i", many) + b"\x7f" * many,
                b"\x95" + struct.pack("<Q", 2**62) + b"N",
            )
        )
