"""Known answers and independent implementations for the byte-level kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine.errors import LocalError
from engine.kernels.interface import Equal, Kernels, Tweak
from engine.kernels.keys import block_keys, key_slices, last_round_key
from engine.kernels.numpy_dpf import fixed_key_hash
from engine.ring import U64, packed_bytes, ring_mask

FIPS_KEY = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
FIPS_PLAIN = bytes.fromhex("00112233445566778899aabbccddeeff")
FIPS_CIPHER = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")


def test_the_last_round_key_is_that_of_fips_197() -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert last_round_key(key).hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"  # appendix A.1


def test_the_hash_reaches_the_block_of_fips_197() -> None:
    sigma = np.frombuffer(FIPS_PLAIN, U64).copy()
    sigma ^= np.frombuffer(FIPS_KEY, U64)
    x = np.array([[sigma[1] ^ sigma[0], sigma[0]]], U64)  # sigma(x) = the plaintext xor the key
    last = np.frombuffer(last_round_key(FIPS_KEY), U64)
    assert (fixed_key_hash(FIPS_KEY)(x) ^ sigma ^ last).tobytes() == FIPS_CIPHER


@pytest.mark.parametrize("offset", [0, 1, 2, 7, 2**32 + 5, 2**62 - 3])
@pytest.mark.parametrize("count", [0, 1, 2, 31, 64, 1001])
def test_ctr_equals_the_library(kernels: Kernels, offset: int, count: int) -> None:
    out = np.zeros(count, U64)
    kernels.ctr(FIPS_KEY, offset, out)
    counters = b"".join(j.to_bytes(16, "little") for j in range(offset // 2, (offset + count + 1) // 2))
    stream = Cipher(algorithms.AES128(FIPS_KEY), modes.ECB()).encryptor().update(counters)
    assert out.tobytes() == stream[8 * (offset % 2) :][: 8 * count]


@pytest.mark.parametrize("w", range(1, 65))
def test_pack_equals_a_big_integer(kernels: Kernels, rng: np.random.Generator, w: int) -> None:
    for count in (0, 1, 7, 8, 9, 67):
        values = rng.integers(0, 2**64, count, dtype=U64)  # high bits must not leak
        packed = np.full(packed_bytes(count, w), 255, np.uint8)
        kernels.pack(values, w, packed)
        number = sum((int(v) % 2**w) << (w * i) for i, v in enumerate(values))
        assert packed.tobytes() == number.to_bytes(len(packed), "little")
        back = np.full(count, 99, U64)
        kernels.unpack(packed, w, back)
        np.testing.assert_array_equal(back, values & ring_mask(w))


@pytest.mark.parametrize("w", [1, 17, 52, 64])
def test_poly_equals_big_integers(kernels: Kernels, rng: np.random.Generator, w: int) -> None:
    arrays = [rng.integers(0, 2**64, 5, dtype=U64) for _ in range(3)]
    terms = [(3, ()), (2**64 - 1, (0,)), (1, (0, 1)), (5, (0, 1, 2)), (1, (2, 2, 2))]
    out = np.zeros(5, U64)
    kernels.poly(arrays, terms, w, out)
    for i in range(5):
        a, b, c = (int(array[i]) for array in arrays)
        assert int(out[i]) == (3 - a + a * b + 5 * a * b * c + c**3) % 2**w


@pytest.mark.parametrize("dtype", [np.uint64, np.int16, np.int32])
@pytest.mark.parametrize("w", [40, 52, 53, 64])
def test_matmul_equals_big_integers(kernels: Kernels, rng: np.random.Generator, dtype: type, w: int) -> None:
    a = rng.integers(0, 2**64, (2, 3, 5), dtype=U64) & ring_mask(w)
    info = np.iinfo(dtype)
    b = rng.integers(info.min, info.max, (2, 5, 4), dtype=dtype, endpoint=True)
    out = np.zeros((2, 3, 4), U64)
    kernels.matmul(a, b, w, out)
    exact = np.matmul(a.astype(object), b.astype(object)) % 2**w
    np.testing.assert_array_equal(out, exact.astype(U64))


def test_every_key_block_and_use_has_its_own_key() -> None:
    keys = block_keys(Tweak(FIPS_KEY, gate=1, first=0), 3 << 16)
    assert len({keys[i : i + 16] for i in range(0, len(keys), 16)}) == 6
    expected = (1).to_bytes(8, "little") + (2).to_bytes(4, "little") + (1).to_bytes(4, "little")
    assert keys[80:96] == Cipher(algorithms.AES128(FIPS_KEY), modes.ECB()).encryptor().update(expected)


def test_a_call_over_many_key_blocks_equals_its_slices(kernels: Kernels, rng: np.random.Generator) -> None:
    """More blocks than a kernel derives keys for at once."""
    m, n, tweak = 3, (17 << 16) + 5, Tweak(FIPS_KEY, gate=2**40 + 1, first=(7 << 16) + 3)
    root, leaf = rng.integers(0, 2**64, (2, n, 2), dtype=np.uint64)
    x_hat, cw = np.arange(n, dtype=np.uint64) % np.uint64(8), np.zeros((0, n, 2), np.uint64)
    whole, parts = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    kernels.dpf_eval(0, m, root, cw, leaf, tweak, x_hat, [Equal(0)], [whole])
    for _, a, b in key_slices(tweak.first, n):
        slice_tweak = replace(tweak, first=tweak.first + a)
        kernels.dpf_eval(0, m, root[a:b], cw[:, a:b], leaf[a:b], slice_tweak, x_hat[a:b], [Equal(0)], [parts[a:b]])
    assert np.array_equal(whole, parts)
    assert 0.4 < whole.mean() < 0.6


def test_a_wrong_shape_is_refused(kernels: Kernels) -> None:
    with pytest.raises(LocalError, match="uint64 array of shape"):
        kernels.ctr(FIPS_KEY, 0, np.zeros(4, np.uint32))
    with pytest.raises(LocalError, match="shape"):
        kernels.poly([np.zeros(3, U64)], [(1, (0,))], 8, np.zeros(4, U64))
    with pytest.raises(LocalError, match="term names"):
        kernels.poly([np.zeros(4, U64)], [(1, (1,))], 8, np.zeros(4, U64))
