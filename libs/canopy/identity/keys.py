"""Private keys as PEM: made, signed with, checked. Called where a CSR is made and where a nonce is answered."""

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

MOST_KEY_BYTES = 16 * 1024
SMALLEST_RSA_BITS = 2048
BIGGEST_RSA_BITS = 4096
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the reading of a stranger's PEM or DER may raise; most of these are no ValueError."""
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class BadKey(ValueError):
    """A key that cannot be read, or of a kind that is not taken."""


def new_key() -> bytes:
    """A new EC P-256 key, PKCS8 PEM."""
    return private_pem(ec.generate_private_key(ec.SECP256R1()))


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key(key_pem: bytes) -> bytes:
    """The public half of a private key, PEM (SubjectPublicKeyInfo)."""
    return public_pem(load(key_pem).public_key())


def public_pem(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(key_pem: bytes, data: bytes) -> bytes:
    """The signature over SHA-256 of `data`: ECDSA, or PKCS#1 v1.5 with an RSA key."""
    key = load(key_pem)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def verify(public_key_pem: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` was made over `data` by the private half; False as well for a key that is none."""
    try:
        key = load_public(public_key_pem)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except (BadKey, InvalidSignature):
        return False
    return True


@lru_cache(maxsize=16)
def load(key_pem: bytes) -> PrivateKey:
    """The key in `key_pem`, not encrypted; raises BadKey."""
    try:
        key = serialization.load_pem_private_key(key_pem[:MOST_KEY_BYTES], None)
    except UNREADABLE as e:
        raise BadKey(f"no private key can be read: {e}") from None
    return taken_private(key)


def taken_private(key: object) -> PrivateKey:
    """`key` if it is of a kind that we take, else BadKey."""
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadKey(f"a private key of a kind that is not taken ({type(key).__name__}): use EC P-256")
    return key


def load_public(public_key_pem: bytes) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(public_key_pem[:MOST_KEY_BYTES])
    except UNREADABLE as e:
        raise BadKey(f"no public key can be read: {e}") from None
    return taken(key)


def taken(key: object) -> PublicKey:
    """`key` if it is of a kind and size that we take, else BadKey."""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and SMALLEST_RSA_BITS <= key.key_size <= BIGGEST_RSA_BITS:
        return key
    raise BadKey("a public key of a kind or size that is not taken: use EC P-256, P-384 or RSA of 2048 to 4096 bits")
